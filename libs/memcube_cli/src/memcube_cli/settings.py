"""What the operator's command reads from its environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CliSettings(BaseSettings):
    """Settings of `memcube`; built once at the start of a command."""

    model_config = SettingsConfigDict(env_prefix="MEMCUBE_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path | None = Field(
        default=None, description="Folder of the stack's data; `.memcube` in the checkout if unset"
    )
    postgres_dsn: str | None = Field(
        default=None, description="Administrator's address of a Postgres of one's own, used instead of the embedded one"
    )
    nats_url: str | None = Field(
        default=None, description="Address of a NATS server of one's own, used instead of the embedded one"
    )
    ready_within: float = Field(default=180.0, gt=0, le=3600, description="Seconds `up` waits for every service")

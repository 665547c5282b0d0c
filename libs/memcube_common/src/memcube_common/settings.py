"""What every room is told by its environment: frozen, bounded, documented, read once in main."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from memcube_common.security.strength import weakness_of_password


def _protected(url: SecretStr) -> SecretStr:
    """Refuse no address, and one whose password anybody would guess; one without any signs in by other means."""
    if not url.get_secret_value().strip():  # the drivers would take one of their own
        raise ValueError("is empty")
    password = urlsplit(url.get_secret_value()).password
    if password is not None and (weakness := weakness_of_password(unquote(password))) is not None:
        raise ValueError(f"the password in it {weakness}")
    return url


ServerUrl = Annotated[SecretStr, AfterValidator(_protected)]
"""A server's address with credentials inside: the password must be at least 16 characters and no example."""


class RoomSettings(BaseSettings):
    """The settings all rooms share. Each room extends this with its own."""

    model_config = SettingsConfigDict(env_prefix="MEMCUBE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    postgres_dsn: ServerUrl = Field(description="Postgres of this room's own login role.")
    nats_url: ServerUrl = Field(description="NATS server, with credentials inside the URL.")
    http_host: str = Field(default="127.0.0.1", description="Address the room listens on; loopback unless told.")
    http_port: int = Field(default=0, ge=0, le=65535, description="Port the room listens on; 0 picks a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(default="json", description="How a log line is written.")
    pool_size: int = Field(default=6, ge=1, le=64, description="Most Postgres connections this process holds.")
    statement_timeout: float = Field(
        default=10.0, gt=0, le=600, description="Seconds a statement may run before Postgres ends it."
    )
    connect_timeout: float = Field(
        default=1.0, gt=0, le=60, description="Seconds to wait for a connection before answering 'try again'."
    )


S = TypeVar("S", bound=RoomSettings)


def read_settings(kind: type[S]) -> S:
    """The settings of a room out of its environment.

    Raises SystemExit with one line for each that is missing or unfit, by the name of its variable, never its value.
    """
    try:
        return kind()  # pyright: ignore[reportCallIssue] (the environment gives them)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise SystemExit(
            "\n".join(_said(kind, fault["loc"], fault["type"], fault["msg"]) for fault in faults)
        ) from None


def _said(kind: type[RoomSettings], path: tuple[int | str, ...], fault: str, message: str) -> str:
    why = "is not set" if fault == "missing" else message.removeprefix("Value error, ")
    if not path:
        return why
    name = str(path[0])
    return f"{f'MEMCUBE_{name}'.upper() if name in kind.model_fields else name}: {why}"

"""What a room that works with objects is told about where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from memcube_common.settings import RoomSettings


class ObjectSettings(RoomSettings):
    """Where large payloads are kept: in `S3_BUCKET` where it is set, else in a folder."""

    model_config = SettingsConfigDict(populate_by_name=True)

    objects_dir: Path = Field(
        default=Path(".memcube/objects"), description="Folder of large payloads, where S3_BUCKET is not set."
    )
    s3_bucket: str | None = Field(
        default=None,
        validation_alias="S3_BUCKET",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$",
        description="Bucket for large payloads; it must exist. Without it they are kept in MEMCUBE_OBJECTS_DIR.",
    )
    s3_access_key: SecretStr | None = Field(
        default=None,
        validation_alias="S3_ACCESS_KEY",
        description="Access key id of the bucket; without it what the machine itself may do (AWS only).",
    )
    s3_secret_key: SecretStr | None = Field(
        default=None, validation_alias="S3_SECRET_KEY", description="Secret access key of the bucket."
    )
    s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Address of the S3 server, as 'https://s3.example.com'; AWS where it is not set.",
    )
    s3_public_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Address by which clients reach the S3 server, for signed URLs; the endpoint where it is not set.",
    )
    s3_region: str = Field(default="us-east-1", min_length=1, max_length=64, description="Region of the bucket.")
    s3_timeout: float = Field(
        default=60.0, gt=0, le=600, description="Seconds one request to the S3 server may take, its body included."
    )
    s3_retry_within: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Seconds within which a request that the S3 server refused or cut off is tried again.",
    )
    objects_memory: int = Field(
        default=256 * 1024 * 1024,
        ge=64 * 1024 * 1024,
        le=64 * 1024**3,
        description="Most bytes of payloads that this process holds at a time on their way to the S3 server, and as"
        " many on their way to readers; one project takes three quarters of it at most.",
    )
    objects_wait: float = Field(
        default=5.0, ge=0, le=60, description="Seconds a payload waits for that room before it is answered 503."
    )

    @model_validator(mode="after")
    def _all_of_a_bucket_or_nothing(self) -> Self:
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError("S3_ACCESS_KEY, S3_SECRET_KEY: set both of them or none")
        if self.s3_bucket is None and not (self.s3_access_key is None and self.s3_endpoint is None):
            raise ValueError("S3_BUCKET: set it too, or payloads are kept in a folder although a server is named")
        return self

"""What a room is told about the language model it may ask."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from memcube_common.settings import RoomSettings


class LanguageSettings(RoomSettings):
    """The settings of a room that may ask a language model; without a key it asks none."""

    model_config = SettingsConfigDict(populate_by_name=True)

    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="OPENAI_API_KEY",
        description="Key of the OpenAI endpoint, under the name its own tools read; without one no language model is"
        " asked.",
    )
    llm_model: str = Field(
        default="gpt-4o-mini",
        min_length=1,
        max_length=200,
        description="Language model asked for by this name; it must know structured outputs.",
    )
    llm_base_url: str = Field(
        default="https://api.openai.com/v1",
        pattern=r"^https?://\S+$",
        description="Address of its endpoint, up to and without '/chat/completions'.",
    )
    llm_timeout: float = Field(default=30.0, gt=0, le=300, description="Seconds one answer of it may take.")
    llm_concurrency: int = Field(default=4, ge=1, le=64, description="Most questions to it under way at once.")

    @model_validator(mode="after")
    def _key_is_sound(self) -> Self:
        if self.openai_api_key is not None:
            key = self.openai_api_key.get_secret_value()
            if key and (not key.isascii() or not key.isprintable() or " " in key):
                raise ValueError("OPENAI_API_KEY must be printable ASCII without spaces")
        return self

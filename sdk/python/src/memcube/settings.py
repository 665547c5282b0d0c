"""Settings: what the project decides about what is written into it."""

from __future__ import annotations

from typing import Any, Literal

from memcube.models import ProjectSettings
from memcube.transport import Transport


class Settings:
    """`client.settings`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self) -> ProjectSettings:
        """The settings as they are. Raises NotFound where the project is not yours."""
        return ProjectSettings.model_validate(await self._transport.request("GET", self._transport.here, None))

    async def set(
        self,
        *,
        screening: Literal["off", "tag", "redact"] | None = None,
        near_duplicates: float | Literal["off"] | None = None,
    ) -> ProjectSettings:
        """Set what is given, leave the rest; returns all of it. For OWNERs and ADMINs who are signed in, not for keys.

        screening: what becomes of personal data and secrets in new text. near_duplicates: cosine similarity, 0.8 … 1,
        from which a new insight supports the memory there is; "off" turns it off.
        Raises NotAllowed, Invalid for values outside these limits.
        """
        changes: dict[str, Any] = {}
        if screening is not None:
            changes["screening"] = screening
        if near_duplicates is not None:
            changes["near_duplicates"] = None if near_duplicates == "off" else near_duplicates
        return ProjectSettings.model_validate(await self._transport.request("PATCH", self._transport.here, changes))

"""Payloads through the HTTP door: links that stand for a download."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from memcube_common.contracts.api import Answer
from memcube_common.contracts.fields import Closed


class PayloadLinkRequest(Closed):
    """A link to the bytes of a memory, wanted for a while."""

    expires_in: Annotated[int, Field(ge=1, le=3600, description="Seconds it is good for.")] = 300


class PayloadLink(Answer):
    """An address under which anybody may read the bytes of a memory, until it is over."""

    url: str
    expires_at: datetime
    size_bytes: int
    checksum: str = Field(description="SHA-256 of the bytes, in hexadecimal: compare it, a bucket does not check.")

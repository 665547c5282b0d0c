"""The object store as a room uses it: receive bytes, read a range, delete, sign; a folder and a bucket behave alike."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Final, Protocol

import structlog

from memcube_common.errors import TryAgain
from memcube_common.objects.bucket import Bucket
from memcube_common.objects.domain import BLOCK, DIGEST, is_block
from memcube_common.objects.folder import Folder
from memcube_common.objects.settings import ObjectSettings

PIECE: Final = 4 * BLOCK
"""Bytes asked of the store at a time: what one download holds in memory."""

_log = structlog.get_logger(__name__)


class Incoming(Protocol):
    """An object on its way in: nothing of it is in the store before it is kept as a whole."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises TryAgain."""
        ...

    async def keep(self) -> None:
        """Keep it: durable when this returns. Raises TryAgain; it may then be there or not."""
        ...


class Objects(Protocol):
    """What a folder and a bucket can both do. Paths are those of `object_path`; every error is a TryAgain."""

    def receive(self, path: str, *, expected: int) -> contextlib.AbstractAsyncContextManager[Incoming]:
        """Begin an object of at most `expected` bytes; one that is not kept when the block ends leaves nothing."""
        ...

    async def read(self, path: str, *, start: int, length: int) -> memoryview | None:
        """`length` bytes from `start`, fewer at the end of the object; None where there is no such object."""
        ...

    async def delete(self, path: str) -> None:
        """Remove it, whatever an interrupted upload left included; quiet where there is nothing."""
        ...

    async def sign(self, path: str, *, expires_in: timedelta) -> str | None:
        """An address under which anybody may read it for a while; None where the store has no door of its own."""
        ...


class ObjectStore:
    """The store of a room: what it reads is checked block by block against what was written."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.receive = objects.receive
        self.delete = objects.delete
        self.sign = objects.sign

    async def stream(
        self, path: str, *, size: int, blocks: bytes, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes from `start` to `end` (exclusive) of an object of `size` bytes, each block checked before it goes.

        blocks: SHA-256 of each MiB, joined. Raises TryAgain where the store is away, the object is not there or is not
        what was written: nothing of a block that does not fit is ever handed out.
        """
        end = size if end is None else end
        if len(blocks) != -(-size // BLOCK) * DIGEST:
            raise _corrupt(path)
        for offset in range(start - start % BLOCK, end, PIECE):
            length = min(PIECE, size - offset, -(-(end - offset) // BLOCK) * BLOCK)
            piece = await self._objects.read(path, start=offset, length=length)
            if piece is None or len(piece) != length:
                raise _corrupt(path)
            for at in range(0, length, BLOCK):
                block = piece[at : at + BLOCK]
                if not is_block(block, (offset + at) // BLOCK, blocks):
                    raise _corrupt(path)
                first, last = max(start - offset - at, 0), min(end - offset - at, BLOCK)
                if part := bytes(block[first:last]):
                    yield part


def open_objects(settings: ObjectSettings) -> ObjectStore:
    """The store that the settings name. Nothing is asked of it yet: it may come later than its room."""
    if settings.s3_bucket is None:
        return ObjectStore(Folder(settings.objects_dir))
    return ObjectStore(Bucket(settings, settings.s3_bucket))


def _corrupt(path: str) -> TryAgain:
    """An object that is not there, or not what was written: the log names it, the caller is told to come again."""
    _log.error("object_corrupt", object=path)
    return TryAgain("The payload cannot be read now.", after=5.0)

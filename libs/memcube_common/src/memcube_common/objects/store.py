"""The object store as a room uses it: receive bytes, read a range, delete, sign; a folder and a bucket behave alike."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Final, Protocol

import structlog

from memcube_common.errors import TryAgain
from memcube_common.objects.bucket import Bucket
from memcube_common.objects.domain import BLOCK, DIGEST, is_block
from memcube_common.objects.folder import Folder
from memcube_common.objects.inflight import InFlight
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

    async def look(self) -> None:
        """Whether it can be worked with as it was set up; leaves nothing there."""
        ...


class ObjectStore:
    """The store of a room: what it reads is checked block by block against what was written.

    memory: bytes that all downloads together hold at most. wait: seconds that one waits for its part of them.
    """

    def __init__(self, objects: Objects, *, memory: int = 64 * PIECE, wait: float = 5.0) -> None:
        self._objects = objects
        self._leaving = InFlight(memory)
        self._wait = wait
        self._works = True
        self.receive = objects.receive
        self.delete = objects.delete
        self.sign = objects.sign
        self.look = objects.look

    async def watch(self, *, every: float) -> None:
        """Look at the store every `every` seconds, for ever; the log says what is wrong with it."""
        while True:
            try:
                await self.look()
                self._works = True
            except TryAgain:
                self._works = False
            await asyncio.sleep(every)

    async def check(self) -> None:
        """What the last look found, at once: the store may be slow. Raises TryAgain."""
        if not self._works:
            raise TryAgain

    async def stream(
        self, path: str, *, size: int, blocks: bytes, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[memoryview]:
        """The bytes from `start` to `end` (exclusive) of an object of `size` bytes, each block checked before it goes.

        blocks: SHA-256 of each MiB, joined. Raises TryAgain where too many are read at a time, the store is away, the
        object is not there or is not what was written: nothing of a block that does not fit is ever handed out.
        """
        end = size if end is None else end
        if len(blocks) != -(-size // BLOCK) * DIGEST:
            raise _corrupt(path)
        project = path.partition("/")[0]
        async with self._leaving.held(min(PIECE, size, end - start + BLOCK), project=project, within=self._wait):
            for offset in range(start - start % BLOCK, end, PIECE):
                length = min(PIECE, size - offset, -(-(end - offset) // BLOCK) * BLOCK)
                piece = await self._objects.read(path, start=offset, length=length)
                if piece is None or len(piece) != length:
                    raise _corrupt(path)
                for at in range(0, length, BLOCK):
                    block = piece[at : at + BLOCK]
                    if not is_block(block, (offset + at) // BLOCK, blocks):
                        raise _corrupt(path)
                    if part := block[max(start - offset - at, 0) : end - offset - at]:
                        yield part


def open_objects(settings: ObjectSettings) -> ObjectStore:
    """The store that the settings name. Nothing is asked of it yet: it may come later than its room."""
    objects = Folder(settings.objects_dir) if settings.s3_bucket is None else Bucket(settings, settings.s3_bucket)
    return ObjectStore(objects, memory=settings.objects_memory, wait=settings.objects_wait)


def _corrupt(path: str) -> TryAgain:
    """An object that is not there, or not what was written: the log names it, the caller is told to come again."""
    _log.error("object_corrupt", object=path)
    return TryAgain("The payload cannot be read now.", after=5.0)

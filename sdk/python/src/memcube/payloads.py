"""Payloads: bytes of any size up and down, in pieces, resumed where a connection breaks, checked at the end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from memcube.bodies import new_id
from memcube.errors import Invalid, NotSignedIn, TooLarge, Unavailable, UnexpectedAnswer
from memcube.models import Memory, PayloadLink
from memcube.transport import Streamed, Transport

MemoryType = Literal["PLAINTEXT", "ACTIVATION", "PARAMETER"]
MIB: Final = 1024 * 1024
LIMITS: Final[Mapping[str, int]] = {"PLAINTEXT": 64 * 1024, "ACTIVATION": 256 * 1024, "PARAMETER": 50 * MIB}
"""Most bytes of a payload, by the type of its memory."""

_PIECE: Final = 256 * 1024
_KEEPING: Final = 60.0  # seconds the server may take to put what it got into its store


class Payloads:
    """`client.memories.payloads`; `client.memories.upload` and `.download` are these, too."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def upload(
        self,
        payload: bytes | Path,
        *,
        type: MemoryType,
        id: UUID | str | None = None,
        label: str | None = None,
        tags: Sequence[str] | None = None,
        governance: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: str | None = None,
        kv_hint: str | None = None,
        parents: Sequence[UUID | str] | None = None,
    ) -> Memory:
        """Make a memory of bytes, or of a file that is read piece by piece.

        type: PLAINTEXT (text in UTF-8, 64 KiB at most), ACTIVATION (256 KiB) or PARAMETER (50 MiB). label: the file's
        name if not given. Durable when this returns, and made once however often it is tried. Raises TooLarge,
        Invalid, NotAllowed; OSError where the file cannot be read.
        """
        given = {
            "id": str(id or new_id()),
            "type": type,
            "label": label,
            "tags": None if tags is None else list(tags),
            "governance": governance,
            "metadata": metadata,
            "priority": priority,
            "kv_hint": kv_hint,
            "parents": None if parents is None else [str(parent) for parent in parents],
        }
        fields = {name: value for name, value in given.items() if value is not None}
        name = "" if isinstance(payload, bytes) else payload.name
        size = await _size_of(payload, LIMITS[type])
        boundary = secrets.token_hex(16)
        head, end = _form(boundary, fields, name)

        async def pieces() -> AsyncGenerator[bytes]:
            yield head
            async for piece in pieces_of(payload, size):
                yield piece
            yield end

        body = Streamed(f"multipart/form-data; boundary={boundary}", len(head) + size + len(end), pieces)
        return await self._transport.ask(Memory, "POST", "memories", streamed=body, extra_seconds=_KEEPING)

    async def replace(self, id: UUID | str, payload: bytes | Path, *, version: int | None = None) -> Memory:
        """Put other bytes in force: the memory's next version.

        version: the one this is meant for; VersionMismatch where another is in force. Without it, a call that is tried
        again after its answer was lost makes two.
        """
        size = await _size_of(payload, max(LIMITS.values()))
        body = Streamed("application/octet-stream", size, lambda: pieces_of(payload, size))
        path = f"memories/{UUID(str(id))}/payload"
        return await self._transport.ask(Memory, "PUT", path, streamed=body, version=version, extra_seconds=_KEEPING)

    async def download(self, id: UUID | str, *, version: int | None = None) -> bytes:
        """The bytes of a memory, of an earlier version if told. Raises NotFound."""
        return b"".join([piece async for piece in self.stream(id, version=version)])

    async def download_to(self, id: UUID | str, file: Path, *, version: int | None = None) -> int:
        """Write the bytes of a memory to `file`, which is there as a whole or not at all; returns how many.

        Raises as `stream`, and OSError.
        """
        draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        size = 0
        try:
            opened = await asyncio.to_thread(draft.open, "xb")
            try:
                async for piece in self.stream(id, version=version):
                    size += await asyncio.to_thread(opened.write, piece)
            finally:
                await asyncio.to_thread(opened.close)
            await asyncio.to_thread(draft.replace, file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return size

    async def stream(self, id: UUID | str, *, version: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes of a memory, piece by piece. Where the connection breaks, it goes on where it was.

        Raises UnexpectedAnswer at the end where all of it is not what its checksum says, or where the payload was
        replaced while it was read; NotFound; Unavailable when patience ends.
        """
        path = f"memories/{UUID(str(id))}/payload"
        params = None if version is None else {"version": str(version)}
        whole, got, tag = hashlib.sha256(), 0, ""
        patience = self._transport.patience
        clock = asyncio.get_running_loop().time
        give_up = clock() + patience.total
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            ranged = {"Range": f"bytes={got}-", "If-Range": tag} if got else {}
            try:
                async with self._transport.fetch(path, headers=ranged, params=params) as response:
                    if got and response.status_code != 206:
                        raise UnexpectedAnswer("the payload was replaced while it was read")
                    tag = response.headers.get("etag", "")
                    async for piece in response.aiter_bytes():
                        whole.update(piece)
                        got += len(piece)
                        yield piece
                        give_up, attempt = clock() + patience.total, 1
            except NotSignedIn:
                if renewed:
                    raise
                renewed = True
            except Unavailable as failure:
                pause = patience.pause(attempt, failure.after)
                if clock() + pause > give_up:
                    raise
                await asyncio.sleep(pause)
            else:
                break
        if tag.strip('"') != whole.hexdigest():
            raise UnexpectedAnswer("what came is not what its checksum says")

    async def link(self, id: UUID | str, *, expires_in: int = 300) -> PayloadLink:
        """An address under which anybody may read the bytes in force now, for 1 to 3600 seconds."""
        path = f"memories/{UUID(str(id))}/payload/url"
        return await self._transport.ask(PayloadLink, "POST", path, body={"expires_in": expires_in})


def _form(boundary: str, fields: Mapping[str, Any], filename: str) -> tuple[bytes, bytes]:
    """What stands before and behind the payload in `multipart/form-data` (RFC 7578)."""
    named = "".join(character for character in filename if character.isprintable() and character not in '"\\')
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="memory"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(fields, ensure_ascii=False)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="payload"; filename="{named[:200]}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


async def _size_of(payload: bytes | Path, limit: int) -> int:
    if isinstance(payload, bytes):
        size = len(payload)
    else:
        found = await asyncio.to_thread(os.stat, payload)
        if not stat.S_ISREG(found.st_mode):
            raise Invalid("only a regular file can be sent: how long another is, is not known before")
        size = found.st_size
    if size > limit:
        raise TooLarge(f"the payload may be at most {limit} bytes, and has {size}")
    return size


async def pieces_of(payload: bytes | Path, size: int) -> AsyncIterator[bytes]:
    """As many bytes as were announced, also of a file that grows meanwhile. Raises Invalid where there are fewer."""
    if isinstance(payload, bytes):
        for at in range(0, len(payload), _PIECE):
            yield payload[at : at + _PIECE]
        return
    with contextlib.closing(await asyncio.to_thread(payload.open, "rb")) as file:
        while size and (piece := await asyncio.to_thread(file.read, min(_PIECE, size))):
            size -= len(piece)
            yield piece
    if size:
        raise Invalid("the file was cut short while it was sent")

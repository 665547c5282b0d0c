"""Objects in a local folder: written beside their place, synced, renamed, and the folder synced after them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Final, ParamSpec, TypeVar

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from memcube_common.errors import TryAgain

_DRAFT: Final = ".part"
_GATHERED: Final = 1024 * 1024
_log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Folder:
    """A folder of one's own (0700): obstore reads it; writing is ours, since obstore's LocalStore does not sync.

    root: made at the first write. The rooms that share the objects share this folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._store: LocalStore | None = None

    @contextlib.asynccontextmanager
    async def receive(self, path: str, *, expected: int) -> AsyncGenerator[_Draft]:
        """A file that becomes the object when it is kept; `expected` is not reserved, bytes go straight to disk."""
        del expected
        with _answering(path):
            draft = await _in_thread(_Draft, self._root, PurePosixPath(path))
        try:
            yield draft
        finally:
            await _in_thread(draft.discard)

    async def read(self, path: str, *, start: int, length: int) -> memoryview | None:
        """`length` bytes from `start`; None where there is no such file."""
        with _answering(path):
            if self._store is None:
                self._store = await _in_thread(_opened, self._root)
            try:
                return memoryview(await obstore.get_range_async(self._store, path, start=start, length=length))
            except FileNotFoundError:
                return None

    async def delete(self, path: str) -> None:
        """Remove the object and its draft, and the memory's folder once it is empty."""
        with _answering(path):
            await _in_thread(_delete, self._root, PurePosixPath(path))

    async def look(self) -> None:
        """Write something into the folder that has no name there and is gone at once."""
        with _answering(self._root.name):
            await _in_thread(_look, self._root)

    async def sign(self, path: str, *, expires_in: timedelta) -> None:
        """A folder has no door of its own."""


class _Draft:
    """A file beside the object's place: O_EXCL, so that two writers of one path never share it."""

    def __init__(self, root: Path, path: PurePosixPath) -> None:
        self._folder = _made(root, path.parent)
        self._name = path.name
        self._draft = path.name + _DRAFT
        self._gathered: list[bytes] = []
        self._size = 0
        self._kept = False
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        try:
            self._file = os.open(self._draft, flags, 0o600, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes; they reach the file a MiB at a time."""
        self._gathered.append(chunk)
        self._size += len(chunk)
        if self._size >= _GATHERED:
            with _answering(self._name):
                await _in_thread(self._write_out)

    async def keep(self) -> None:
        """The object is there and survives a power cut when this returns."""
        with _answering(self._name):
            await _in_thread(self._keep)

    def discard(self) -> None:
        """Close the file; what was not kept is removed."""
        self._gathered.clear()
        try:
            os.close(self._file)
            if not self._kept:
                with contextlib.suppress(OSError):  # the sweep removes what stays
                    os.unlink(self._draft, dir_fd=self._folder)
        finally:
            os.close(self._folder)

    def _write_out(self) -> None:
        gathered, self._gathered, self._size = self._gathered, [], 0
        for chunk in gathered:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def _keep(self) -> None:
        self._write_out()
        os.fsync(self._file)
        os.rename(self._draft, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._kept = True
        os.fsync(self._folder)


def _opened(root: Path) -> LocalStore:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalStore(prefix=root)


def _look(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root, buffering=0) as file:
        file.write(b"x")


def _made(root: Path, folder: PurePosixPath) -> int:
    """The folder below `root`, made and synced where it is not there, as an open descriptor; no link is followed."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(8):  # a sweep may remove an empty folder between our making and our entering it
        with contextlib.suppress(FileNotFoundError):
            return _entered(root, folder, make=True)
    return _entered(root, folder, make=True)


def _entered(root: Path, folder: PurePosixPath, *, make: bool) -> int:
    inside = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in folder.parts:
        outer = inside
        try:
            if make:
                try:
                    os.mkdir(name, 0o700, dir_fd=outer)
                    os.fsync(outer)
                except FileExistsError:
                    pass
            inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
        finally:
            os.close(outer)
    return inside


def _delete(root: Path, path: PurePosixPath) -> None:
    try:
        folder = _entered(root, path.parent, make=False)
    except FileNotFoundError:
        return
    try:
        for name in (path.name, path.name + _DRAFT):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(folder)
    with contextlib.suppress(OSError):  # another object of the same memory is still there
        (root / path.parent).rmdir()


@contextlib.contextmanager
def _answering(path: str) -> Generator[None]:
    """What goes wrong with the disk means: try again."""
    try:
        yield
    except (OSError, BaseError) as error:
        _log.warning("objects_away", error=type(error).__name__, errno=getattr(error, "errno", None), object=path)
        raise TryAgain("The object store cannot be used now.", after=2.0) from error


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread and wait for its end also where we are cancelled: its files may not be closed under it."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()
        raise

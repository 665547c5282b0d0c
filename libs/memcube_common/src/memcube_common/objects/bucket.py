"""Objects in an S3-compatible bucket, through obstore: one PUT for each, checksummed, bounded in memory and in time."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import S3Store

from memcube_common.errors import TryAgain
from memcube_common.objects.inflight import InFlight
from memcube_common.objects.settings import ObjectSettings

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import S3Config

_CONNECT: Final = 3.0
_SMALL_WITHIN: Final = 15.0  # seconds for what moves 4 MiB at most
_NEVER_THERE: Final = "memcube-looks"  # no object has this name
_NEVER_RUN: Final[Attributes] = {"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_log = structlog.get_logger(__name__)


class Bucket:
    """A bucket that exists. Uploads wait in memory, once, as the chunks they came in, until they are whole."""

    def __init__(self, settings: ObjectSettings, bucket: str) -> None:
        self._store = _store(settings, bucket, settings.s3_endpoint)
        self._signing = _store(settings, bucket, settings.s3_public_endpoint or settings.s3_endpoint)
        self._room = InFlight(settings.objects_memory)
        self._wait = settings.objects_wait
        self._within = settings.s3_timeout + settings.s3_retry_within

    @contextlib.asynccontextmanager
    async def receive(self, path: str, *, expected: int) -> AsyncGenerator[_Held]:
        """Chunks that become the object when they are kept. Raises TryAgain where too many are on their way."""
        async with self._room.held(expected, project=path.partition("/")[0], within=self._wait):
            yield _Held(self._store, path, within=self._within)

    async def read(self, path: str, *, start: int, length: int) -> memoryview | None:
        """`length` bytes from `start`; None where there is no such object."""
        with _answering(path):
            async with asyncio.timeout(min(_SMALL_WITHIN, self._within)):
                with _object_missing():
                    return memoryview(await obstore.get_range_async(self._store, path, start=start, length=length))
                return None

    async def delete(self, path: str) -> None:
        """Remove the object, if it is there."""
        with _answering(path):
            async with asyncio.timeout(min(_SMALL_WITHIN, self._within)):
                with _object_missing():
                    await obstore.delete_async(self._store, path)

    async def look(self) -> None:
        """Ask for an object that never was: only with address, region, keys and bucket right is that the answer."""
        with _answering(_NEVER_THERE):
            async with asyncio.timeout(min(_SMALL_WITHIN, self._within)):
                try:
                    with _object_missing():
                        await obstore.get_range_async(self._store, _NEVER_THERE, start=0, length=1)
                except PermissionDeniedError as error:
                    if _code_of(error) != "AccessDenied":  # told instead of 'not there' to keys that may not list
                        raise

    async def sign(self, path: str, *, expires_in: timedelta) -> str:
        """A signed URL (AWS Signature V4) for a GET of the object."""
        with _answering(path):
            return await obstore.sign_async(self._signing, "GET", path, expires_in)


class _Held:
    """The chunks of one object, never joined: obstore hands them to the request as they are."""

    def __init__(self, store: S3Store, path: str, *, within: float) -> None:
        self._store = store
        self._path = path
        self._within = within
        self._chunks: list[bytes] = []

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._chunks.append(chunk)

    async def keep(self) -> None:
        """One PUT, all or nothing: a multipart upload that is killed would leave parts that nobody sees."""
        with _answering(self._path):
            async with asyncio.timeout(self._within):
                await obstore.put_async(
                    self._store, self._path, self._chunks, attributes=_NEVER_RUN, use_multipart=False
                )


def _store(settings: ObjectSettings, bucket: str, endpoint: str | None) -> S3Store:
    config: S3Config = {
        "region": settings.s3_region,
        "checksum_algorithm": "SHA256",
        "disable_bulk_delete": True,  # not every S3-compatible server knows it
    }
    if settings.s3_access_key is not None and settings.s3_secret_key is not None:
        config["access_key_id"] = settings.s3_access_key.get_secret_value()
        config["secret_access_key"] = settings.s3_secret_key.get_secret_value()
    if endpoint is not None:
        config["endpoint"] = endpoint
    return S3Store(
        bucket,
        config=config,
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=_CONNECT),
            "timeout": timedelta(seconds=settings.s3_timeout),
        },
        retry_config={
            "max_retries": 4,
            "retry_timeout": timedelta(seconds=settings.s3_retry_within),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


@contextlib.contextmanager
def _answering(path: str) -> Generator[None]:
    """What goes wrong with the bucket means: try again. Of the error's own words S3's code is told."""
    try:
        yield
    except (OSError, TimeoutError, BaseError, ValueError) as error:
        _log.warning("objects_away", error=type(error).__name__, code=_code_of(error), object=path)
        raise TryAgain("The object store cannot be used now.", after=2.0) from error


@contextlib.contextmanager
def _object_missing() -> Generator[None]:
    """That an object is not there is no error; that the bucket is not is one: the sweep forgets what is gone."""
    try:
        yield
    except FileNotFoundError as error:
        if _code_of(error) == "NoSuchBucket":
            raise


def _code_of(error: Exception) -> str | None:
    """What the server itself calls it (NoSuchBucket, AccessDenied, …); obstore hands it on within its text only."""
    found = _CODE.search(str(error))
    return None if found is None else found[1]

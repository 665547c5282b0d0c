"""Loopback ports: choose a free one, and ask what answers on it."""

import asyncio
import secrets
import socket
from collections.abc import Collection

HOST = "127.0.0.1"

# Below every system's ephemeral range: an outgoing connection can then never sit on a server's port while the server
# restarts (nor connect to itself there).
_FIRST, _LAST = 20_000, 29_999


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None, *, besides: Collection[int] = ()) -> int:
    """Return the preferred port if it is free, else a random free one between 20000 and 29999.

    A port in `besides` (promised to another server, which may not listen yet) is not returned.
    """
    if preferred is not None and preferred not in besides and is_free(preferred):
        return preferred
    for _ in range(1_000):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)
        if port not in besides and is_free(port):
            return port
    raise OSError(f"no loopback port between {_FIRST} and {_LAST} is free")


async def http_status(port: int, path: str, *, within: float = 1.0) -> int | None:
    """Return the status code a loopback HTTP server answers to GET `path`, None if none comes in time."""
    answer = await http_answer(port, path, within=within)
    return None if answer is None else answer[0]


async def http_answer(port: int, path: str, *, within: float = 1.0) -> tuple[int, bytes] | None:
    """Return status and body of what a loopback HTTP server answers to GET `path`, None if none comes in time."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                words = head.split(maxsplit=2)
                return (int(words[1]), body) if len(words) > 1 else None
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None


async def greeting(port: int, *, within: float = 1.0) -> bytes | None:
    """Return the first line a loopback server sends by itself, None if nothing comes in `within` seconds."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None

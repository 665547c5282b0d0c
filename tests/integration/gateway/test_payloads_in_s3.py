"""Payloads in a real S3 server: 50 MiB there and back byte for byte, and nothing left of an upload that was cut off."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from uuid import UUID

import httpx
import orjson
import pytest_asyncio
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from tests.eventually import eventually
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.rooms import admin, opened

from memcube_common.objects import BLOCK, PAYLOAD_MAX
from memcube_common.testing.s3 import S3Server
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_lifecycle.sweep import Sweep, SweepMeters, sweep_objects

BUCKET = "payloads"


@pytest_asyncio.fixture(scope="module")
async def gateway(database: HouseDatabase, s3: S3Server) -> AsyncGenerator[RunningGateway]:
    """A gateway whose objects lie in the S3 server, with room for one large upload at a time."""
    async with running_gateway(
        database,
        s3_bucket=BUCKET,
        s3_access_key=SecretStr(s3.access_key),
        s3_secret_key=SecretStr(s3.secret_key),
        s3_endpoint=s3.endpoint,
        objects_memory=64 * BLOCK,
        objects_wait=0.05,
    ) as gateway:
        yield gateway


@pytest_asyncio.fixture
async def sweep(gateway: RunningGateway, database: HouseDatabase) -> AsyncGenerator[Sweep]:
    """The lifecycle room's sweep over the same bucket; what has been arriving for a moment is swept."""
    async with contextlib.AsyncExitStack() as stack:
        db = await opened(database, "lifecycle", stack)
        yield Sweep(db, gateway.room.objects, SweepMeters.fresh(CollectorRegistry()), 3600.0)


def form_of(payload: bytes) -> tuple[dict[str, str], list[bytes]]:
    """An upload of a PARAMETER as a browser would write it: its headers and its pieces."""
    head = (
        b'--xyz\r\nContent-Disposition: form-data; name="memory"\r\nContent-Type: application/json\r\n\r\n'
        b'{"type":"PARAMETER","label":"lora"}\r\n--xyz\r\nContent-Disposition: form-data; name="payload";'
        b' filename="lora.bin"\r\nContent-Type: application/octet-stream\r\n\r\n'
    )
    pieces = [head, *(payload[at : at + 65_536] for at in range(0, len(payload), 65_536)), b"\r\n--xyz--\r\n"]
    length = str(sum(map(len, pieces)))
    return {"content-type": "multipart/form-data; boundary=xyz", "content-length": length}, pieces


async def states(database: HouseDatabase, project: str) -> list[str]:
    """What Postgres knows of a project's objects."""
    async with admin(database) as connection:
        found = await connection.fetch("select state from memcube.objects where project_id = $1 order by key", project)
    return [row["state"] for row in found]


async def test_50_mib_go_there_and_back_byte_for_byte(
    http: httpx.AsyncClient, database: HouseDatabase, project: HouseProject, s3: S3Server, sweep: Sweep
) -> None:
    payload = random.Random(7).randbytes(PAYLOAD_MAX["PARAMETER"])
    headers, pieces = form_of(payload)

    async def sent() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    made = await http.post("memories", content=sent(), headers=headers)
    assert made.status_code == 201, made.text
    memory = made.json()
    assert (memory["size_bytes"], memory["checksum"]) == (len(payload), hashlib.sha256(payload).hexdigest())
    got = await http.get(f"memories/{memory['id']}/payload")
    assert hashlib.sha256(got.content).hexdigest() == memory["checksum"]
    tail = await http.get(f"memories/{memory['id']}/payload", headers={"range": "bytes=-1000"})
    assert (tail.status_code, tail.content) == (206, payload[-1000:])
    async with admin(database) as connection:
        key = await connection.fetchval(
            "select object_key from memcube.memory_payloads where memory_id = $1 and storage_mode = 'COLD'",
            UUID(memory["id"]),
        )
    assert f"{project.slug}/{key}" in await s3.keys_in(BUCKET)

    link = (await http.post(f"memories/{memory['id']}/payload/url", json={})).json()
    assert link["url"].startswith(f"{s3.endpoint}/{BUCKET}/{project.slug}/")
    async with httpx.AsyncClient(trust_env=False) as stranger:
        assert hashlib.sha256((await stranger.get(link["url"])).content).hexdigest() == link["checksum"]

    assert (await http.delete(f"memories/{memory['id']}")).status_code == 200
    await sweep_objects(sweep)
    assert await states(database, project.slug) == []
    assert [key for key in await s3.keys_in(BUCKET) if key.startswith(project.slug)] == []


async def test_a_client_that_goes_away_leaves_no_row_and_no_object(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject, s3: S3Server, sweep: Sweep
) -> None:
    headers, pieces = form_of(bytes(10 * BLOCK))

    async def cut() -> AsyncIterator[bytes]:
        for piece in pieces[: len(pieces) // 2]:
            yield piece
        await eventually(arriving)
        raise ConnectionError

    async def arriving() -> bool:
        return await states(database, project.slug) == ["arriving"]

    async with httpx.AsyncClient(headers=project.authorization) as client:
        with contextlib.suppress(ConnectionError):
            await client.post(f"{gateway.url}/v1/projects/{project.slug}/memories", content=cut(), headers=headers)

    async def given_up() -> bool:
        return await states(database, project.slug) == ["leaving"]

    await eventually(given_up)
    await sweep_objects(sweep)
    assert await states(database, project.slug) == []
    assert [key for key in await s3.keys_in(BUCKET) if key.startswith(project.slug)] == []
    async with admin(database) as connection:
        assert await connection.fetch("select from memcube.memories where project_id = $1", project.slug) == []


async def test_a_second_large_upload_waits_a_moment_and_is_asked_to_come_again(http: httpx.AsyncClient) -> None:
    headers, pieces = form_of(bytes(40 * BLOCK))
    refused: list[httpx.Response] = []

    async def sent() -> AsyncIterator[bytes]:
        for piece in pieces[:5]:
            yield piece
        refused.append(await http.post("memories", content=b"".join(pieces), headers=headers))
        raise ConnectionError

    with contextlib.suppress(ConnectionError):
        await http.post("memories", content=sent(), headers=headers)
    assert refused[0].status_code == 503
    assert refused[0].headers["retry-after"] == "5"


async def test_without_the_store_text_goes_on_and_bytes_are_asked_to_come_again(
    database: HouseDatabase, project: HouseProject
) -> None:
    async with (
        running_gateway(
            database,
            s3_bucket=BUCKET,
            s3_access_key=SecretStr("x"),
            s3_secret_key=SecretStr("y"),
            s3_endpoint="http://127.0.0.1:9",
            s3_retry_within=0.2,
        ) as gateway,
        httpx.AsyncClient(
            base_url=f"{gateway.url}/v1/projects/{project.slug}/", headers=project.authorization
        ) as client,
    ):
        text = {"memory": (None, orjson.dumps({"type": "PLAINTEXT"})), "payload": (None, b"Text does not need it.")}
        assert (await client.post("memories", files=text)).status_code == 201
        headers, pieces = form_of(bytes(100_000))
        refused = await client.post("memories", content=b"".join(pieces), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert "retry-after" in refused.headers
        # The store may have it or not: it stays announced until nobody can be bringing it any more.
        assert await states(database, project.slug) == ["arriving"]

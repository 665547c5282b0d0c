"""Payloads over HTTP: every type and tier round-trips byte for byte; what is refused leaves nothing anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from tests.eventually import eventually
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.rooms import admin, opened

from memcube_common.ids import new_id
from memcube_common.objects import BLOCK
from memcube_common.testing.servers import HouseDatabase, HouseProject
from memcube_lifecycle.sweep import Sweep, SweepMeters, sweep_objects

MIB = BLOCK


@dataclass(frozen=True, slots=True)
class Desk:
    """A gateway whose objects lie in a folder, and the folder."""

    gateway: RunningGateway
    folder: Path
    database: HouseDatabase

    def files(self, project: str) -> list[Path]:
        """Every file of a project's objects, drafts included."""
        return sorted(file for file in (self.folder / project).rglob("*") if file.is_file())

    async def rows(self, project: str) -> list[tuple[str, str]]:
        """What Postgres knows of a project's objects: key and state."""
        async with admin(self.database) as connection:
            found = await connection.fetch("select key, state from memcube.objects where project_id = $1", project)
        return sorted((row["key"], row["state"]) for row in found)

    async def memories(self, project: str) -> int:
        """How many memories a project has."""
        async with admin(self.database) as connection:
            return await connection.fetchval("select count(*) from memcube.memories where project_id = $1", project)


@pytest_asyncio.fixture(scope="module")
async def desk(database: HouseDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Desk]:
    folder = tmp_path_factory.mktemp("payloads") / "objects"
    async with running_gateway(database, objects_dir=folder, upload_stall=0.5) as gateway:
        yield Desk(gateway, folder, database)


@pytest_asyncio.fixture
async def http(desk: Desk, project: HouseProject) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"{desk.gateway.url}/v1/projects/{project.slug}/", headers=project.authorization, timeout=15
    ) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def sweep(desk: Desk) -> AsyncGenerator[Sweep]:
    """The lifecycle room's sweep over the same folder."""
    async with contextlib.AsyncExitStack() as stack:
        db = await opened(desk.database, "lifecycle", stack)
        yield Sweep(db, desk.gateway.room.objects, SweepMeters.fresh(CollectorRegistry()), 3600.0)


async def upload(
    http: httpx.AsyncClient, type: str, payload: bytes, *, key: str | None = None, **fields: Any
) -> httpx.Response:
    """A form of two parts, as httpx writes it."""
    return await http.post(
        "memories",
        files=[
            ("memory", (None, orjson.dumps({"type": type, **fields}), "application/json")),
            ("payload", ("lora-7.bin", payload, "application/octet-stream")),
        ],
        headers={} if key is None else {"idempotency-key": key},
    )


@pytest.mark.parametrize(
    ("type", "size", "mode"),
    [
        ("PLAINTEXT", 11, "INLINE"),
        ("PLAINTEXT", 64 * 1024, "COMPRESSED"),
        ("ACTIVATION", 1, "INLINE"),
        ("ACTIVATION", 4096, "INLINE"),
        ("ACTIVATION", 4097, "COMPRESSED"),
        ("ACTIVATION", 65536, "COMPRESSED"),
        ("ACTIVATION", 65537, "COLD"),
        ("ACTIVATION", 256 * 1024, "COLD"),
        ("PARAMETER", 3 * MIB + 17, "COLD"),
    ],
)
async def test_what_was_uploaded_is_downloaded(
    desk: Desk, http: httpx.AsyncClient, project: HouseProject, type: str, size: int, mode: str
) -> None:
    payload = b"a word " * (size // 7 + 1) if type == "PLAINTEXT" else os.urandom(size)
    payload = payload[:size]
    made = await upload(http, type, payload, tags=["up"])
    assert made.status_code == 201, made.text
    memory = made.json()
    assert (memory["type"], memory["size_bytes"]) == (type, size)
    assert memory["checksum"] == hashlib.sha256(payload).hexdigest()
    assert memory["label"] == ("lora-7.bin" if type != "PLAINTEXT" else memory["label"])
    got = await http.get(f"memories/{memory['id']}/payload")
    assert (got.status_code, got.content) == (200, payload)
    assert got.headers["etag"] == f'"{memory["checksum"]}"'
    assert got.headers["content-length"] == str(size)
    assert got.headers["x-content-type-options"] == "nosniff"
    kind = "text/plain; charset=utf-8" if type == "PLAINTEXT" else "application/octet-stream"
    assert got.headers["content-type"] == kind
    assert re.fullmatch(r'attachment; filename="[0-9a-f-]+-v1\.(txt|bin)"', got.headers["content-disposition"])
    async with admin(desk.database) as connection:
        stored = await connection.fetchrow(
            "select storage_mode, object_key from memcube.memory_payloads where memory_id = $1", UUID(memory["id"])
        )
    assert stored is not None
    assert stored["storage_mode"] == mode
    assert await desk.rows(project.slug) == ([(stored["object_key"], "kept")] if mode == "COLD" else [])
    assert len(desk.files(project.slug)) == (mode == "COLD")
    shown = (await http.get(f"memories/{memory['id']}")).json()
    assert shown["content"] == (payload.decode() if type == "PLAINTEXT" else None)


async def test_ranges_validators_and_heads(http: httpx.AsyncClient) -> None:
    payload = os.urandom(2 * MIB + 100)
    made = (await upload(http, "PARAMETER", payload)).json()
    at = f"memories/{made['id']}/payload"
    tag = f'"{made["checksum"]}"'
    for header, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, len(payload)),
        ("bytes=-50", len(payload) - 50, len(payload)),
        (f"bytes={MIB - 1}-{MIB}", MIB - 1, MIB + 1),
        ("bytes=0-99999999", 0, len(payload)),
    ]:
        part = await http.get(at, headers={"range": header})
        assert (part.status_code, part.content) == (206, payload[start:end]), header
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(payload)}"
    for ignored in ("bytes=0-1,4-5", "bytes=9-3", "lines=1-2", "bytes=x-"):
        assert (await http.get(at, headers={"range": ignored})).status_code == 200
    for outside in (f"bytes={len(payload)}-", "bytes=-0"):
        refused = await http.get(at, headers={"range": outside})
        assert (refused.status_code, refused.json()["code"]) == (416, "range_not_satisfiable")
        assert refused.headers["content-range"] == f"bytes */{len(payload)}"
    stale = await http.get(at, headers={"range": "bytes=0-9", "if-range": '"other"'})
    assert (stale.status_code, len(stale.content)) == (200, len(payload))
    assert (await http.get(at, headers={"range": "bytes=0-9", "if-range": tag})).status_code == 206
    for known in (tag, f'"a", W/{tag}', "*"):
        unchanged = await http.get(at, headers={"if-none-match": known})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    head = await http.head(at)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(payload)))


async def test_a_put_makes_the_next_version_and_the_one_before_can_still_be_read(http: httpx.AsyncClient) -> None:
    first, second = os.urandom(100_000), os.urandom(200_000)
    made = (await upload(http, "ACTIVATION", first)).json()
    at = f"memories/{made['id']}/payload"
    assert (await http.put(at, content=second, headers={"if-match": '"2"'})).status_code == 412
    changed = await http.put(at, content=second, headers={"if-match": '"1"', "content-type": "image/png"})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"'), changed.text
    assert (changed.json()["version"], changed.json()["size_bytes"]) == (2, 200_000)
    assert (await http.get(at)).content == second
    assert (await http.get(at, params={"version": 1})).content == first
    assert (await http.get(at, params={"version": 2})).content == second
    assert (await http.get(at, params={"version": 3})).status_code == 404
    small = await http.put(at, content=b"x")
    assert small.json()["version"] == 3
    assert (await http.get(at)).content == b"x"


async def test_text_is_replaced_by_text_only(http: httpx.AsyncClient) -> None:
    made = (await http.post("memories", json={"content": "The staging cluster sleeps at night."})).json()
    at = f"memories/{made['id']}/payload"
    assert (await http.get(at)).text == "The staging cluster sleeps at night."
    for bad in (b"\xff\xfe", b"", b"nul\x00", b"   ", b"x" * (64 * 1024 + 1)):
        refused = await http.put(at, content=bad)
        assert refused.status_code == (413 if len(bad) > 10 else 422), refused.text
    told = await http.put(at, content="Der Testcluster schläft nie.".encode())
    assert (told.json()["version"], told.json()["content"]) == (2, "Der Testcluster schläft nie.")


def form(*parts: tuple[str, bytes], end: bytes = b"--xyz--\r\n") -> bytes:
    """A form written by hand, so that it can be wrong."""
    body = b""
    for name, content in parts:
        body += f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"
    return body + end


ACTIVATION = b'{"type": "ACTIVATION", "label": "kv"}'
HOSTILE: dict[str, tuple[bytes, int]] = {
    "payload first": (form(("payload", b"x"), ("memory", ACTIVATION)), 422),
    "no payload": (form(("memory", ACTIVATION)), 422),
    "no memory": (form(("payload", b"x")), 422),
    "nothing": (form(), 422),
    "an empty payload": (form(("memory", ACTIVATION), ("payload", b"")), 422),
    "two payloads": (form(("memory", ACTIVATION), ("payload", b"x"), ("payload", b"y")), 422),
    "two memories": (form(("memory", ACTIVATION), ("memory", ACTIVATION), ("payload", b"y")), 422),
    "a third part": (form(("memory", ACTIVATION), ("payload", b"x"), ("more", b"y")), 422),
    "cut in the payload": (form(("memory", ACTIVATION), ("payload", b"x" * 90_000), end=b""), 400),
    "cut in the last boundary": (form(("memory", ACTIVATION), ("payload", b"x" * 90_000), end=b"--xyz-"), 400),
    "another boundary": (form(("memory", ACTIVATION), ("payload", b"x")).replace(b"xyz", b"xyw"), 400),
    "no form at all": (ACTIVATION, 400),
    "a part without a name": (b"--xyz\r\nContent-Type: text/plain\r\n\r\nx\r\n--xyz--\r\n", 400),
    "a header without an end": (b"--xyz\r\nX: " + b"a" * 10_000, 400),
    "base64": (
        b'--xyz\r\nContent-Disposition: form-data; name="memory"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        b"e30=\r\n--xyz--\r\n",
        400,
    ),
    "memory is no JSON": (form(("memory", b"{"), ("payload", b"x")), 400),
    "memory has no type": (form(("memory", b"{}"), ("payload", b"x")), 422),
    "content in both": (form(("memory", b'{"type": "PLAINTEXT", "content": "x"}'), ("payload", b"x")), 422),
    "memory is too large": (form(("memory", b'{"type": "ACTIVATION", "x": "' + b"x" * 300_000 + b'"}')), 413),
    "one byte too many": (form(("memory", ACTIVATION), ("payload", b"x" * (256 * 1024 + 1))), 413),
    "text that is none": (form(("memory", b'{"type": "PLAINTEXT"}'), ("payload", b"\xff\xfe")), 422),
    "a surrogate in the memory": (form(("memory", b'{"type":"ACTIVATION","label":"\\ud800"}'), ("payload", b"x")), 422),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_form_that_is_wrong_is_refused_and_leaves_nothing(
    desk: Desk,
    http: httpx.AsyncClient,
    project: HouseProject,
    sweep: Sweep,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    body, status = HOSTILE[name]
    refused = await http.post("memories", content=body, headers={"content-type": "multipart/form-data; boundary=xyz"})
    assert refused.status_code == status, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert await desk.memories(project.slug) == 0
    assert all(state == "leaving" for _, state in await desk.rows(project.slug))
    await sweep_objects(sweep)
    assert await desk.rows(project.slug) == []
    assert desk.files(project.slug) == []
    assert [line.name for line in caplog.records if line.name.startswith("python_multipart")] == []


async def test_bytes_that_come_as_json_are_told_how_to_come(http: httpx.AsyncClient) -> None:
    refused = await http.post("memories", json={"type": "PARAMETER", "content": "AAAA"})
    assert refused.status_code == 422
    (fault,) = refused.json()["errors"]
    assert fault["field"] == "type"
    assert "multipart/form-data" in fault["message"]


async def test_boundaries_inside_the_payload_are_payload(http: httpx.AsyncClient) -> None:
    payload = b"\r\n--xy\r\n--xyz" + b"\r" * 50 + b"\n--xyw--\r\n--xy" + b"\r\n--xyzz" * 3 + b"\r\n"
    payload = payload.replace(b"\r\n--xyz", b"\n--xyz")

    async def in_single_bytes() -> AsyncIterator[bytes]:
        for byte in form(("memory", ACTIVATION), ("payload", payload)):
            yield bytes([byte])

    made = await http.post(
        "memories", content=in_single_bytes(), headers={"content-type": "multipart/form-data; boundary=xyz"}
    )
    assert made.status_code == 201, made.text
    assert (await http.get(f"memories/{made.json()['id']}/payload")).content == payload


async def test_an_idempotency_key_stands_for_both_parts(
    desk: Desk, http: httpx.AsyncClient, project: HouseProject, sweep: Sweep
) -> None:
    payload, other = os.urandom(70_000), os.urandom(70_000)
    first = await upload(http, "PARAMETER", payload, key="k1", label="one")
    again = await upload(http, "PARAMETER", payload, key="k1", label="one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert (await upload(http, "PARAMETER", other, key="k1", label="one")).status_code == 422
    assert (await upload(http, "PARAMETER", payload, key="k1", label="two")).status_code == 422
    await sweep_objects(sweep)
    assert [state for _, state in await desk.rows(project.slug)] == ["kept"]
    assert len(desk.files(project.slug)) == 1


async def test_an_id_that_is_taken_and_a_role_that_reads_leave_nothing(
    desk: Desk, http: httpx.AsyncClient, project: HouseProject, sweep: Sweep
) -> None:
    id = str(new_id())
    assert (await upload(http, "PARAMETER", os.urandom(70_000), id=id)).status_code == 201
    assert (await upload(http, "PARAMETER", os.urandom(70_000), id=id)).status_code == 409
    assert (await http.put(f"memories/{new_id()}/payload", content=bytes(70_000))).status_code == 404
    await sweep_objects(sweep)
    assert len(desk.files(project.slug)) == len(await desk.rows(project.slug)) == 1


async def sending(
    desk: Desk, project: HouseProject, begun: bytes, announced: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A form of `announced` bytes of which only `begun` are sent."""
    head = (
        f"POST /v1/projects/{project.slug}/memories HTTP/1.1\r\nhost: x\r\n"
        f"authorization: {project.authorization['authorization']}\r\n"
        f"content-type: multipart/form-data; boundary=xyz\r\ncontent-length: {announced}\r\n\r\n"
    )
    host, port = desk.gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + begun)
    await writer.drain()
    return reader, writer


async def test_a_client_that_goes_away_leaves_nothing(desk: Desk, project: HouseProject, sweep: Sweep) -> None:
    body = form(("memory", b'{"type": "PARAMETER", "label": "lora"}'), ("payload", bytes(20 * MIB)))
    _, writer = await sending(desk, project, body[: 8 * MIB], len(body))
    await eventually(lambda: desk.files(project.slug))  # it is on its way to the disk
    writer.transport.abort()

    async def given_up() -> bool:
        return [state for _, state in await desk.rows(project.slug)] == ["leaving"]

    await eventually(given_up)
    await sweep_objects(sweep)
    assert (desk.files(project.slug), await desk.rows(project.slug)) == ([], [])
    assert await desk.memories(project.slug) == 0


async def test_a_credential_that_ends_on_the_way_brings_nothing_in(
    desk: Desk, project: HouseProject, sweep: Sweep
) -> None:
    body = form(("memory", b'{"type": "PARAMETER", "label": "lora"}'), ("payload", bytes(2 * MIB)))
    reader, writer = await sending(desk, project, body[:MIB], len(body))
    await eventually(lambda: desk.files(project.slug))
    async with admin(desk.database) as connection:
        await connection.execute("update memcube.api_keys set revoked_at = now() where project_id = $1", project.slug)
    desk.gateway.room.door.forget_all()
    writer.write(body[MIB:])
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()

    async def given_up() -> bool:
        return [state for _, state in await desk.rows(project.slug)] == ["leaving"]

    await eventually(given_up)
    await sweep_objects(sweep)
    assert (desk.files(project.slug), await desk.memories(project.slug)) == ([], 0)


async def test_a_sender_that_stalls_is_cut_off(desk: Desk, project: HouseProject) -> None:
    reader, writer = await sending(desk, project, form(("memory", ACTIVATION), ("payload", b"x"))[:-20], 1000)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in answer


async def test_a_purged_memorys_objects_leave_at_the_next_sweep(
    desk: Desk, http: httpx.AsyncClient, project: HouseProject, sweep: Sweep
) -> None:
    made = (await upload(http, "PARAMETER", os.urandom(100_000))).json()
    assert (await http.put(f"memories/{made['id']}/payload", content=os.urandom(90_000))).status_code == 200
    assert len(desk.files(project.slug)) == 2
    await sweep_objects(sweep)
    assert len(desk.files(project.slug)) == 2
    assert (await http.delete(f"memories/{made['id']}")).status_code == 200
    assert {state for _, state in await desk.rows(project.slug)} == {"leaving"}
    await sweep_objects(sweep)
    assert (desk.files(project.slug), await desk.rows(project.slug)) == ([], [])


async def test_only_what_has_been_arriving_for_too_long_is_swept(
    desk: Desk, project: HouseProject, sweep: Sweep
) -> None:
    key = f"{new_id()}/{'0' * 32}"
    async with admin(desk.database) as connection:
        await connection.execute(
            "insert into memcube.objects (project_id, key, state, size_bytes) values ($1, $2, 'arriving', 5)",
            project.slug,
            key,
        )
        await sweep_objects(sweep)
        assert await desk.rows(project.slug) == [(key, "arriving")]
        await connection.execute(
            "update memcube.objects set since = since - interval '61 minutes' where project_id = $1", project.slug
        )
    await sweep_objects(sweep)
    assert await desk.rows(project.slug) == []


async def test_a_corrupt_object_is_never_served(
    desk: Desk, http: httpx.AsyncClient, project: HouseProject, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = os.urandom(6 * MIB)
    made = (await upload(http, "PARAMETER", payload)).json()
    at = f"memories/{made['id']}/payload"
    (file,) = desk.files(project.slug)

    def damage(place: int) -> None:
        file.write_bytes(payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :])

    damage(10)
    refused = await http.get(at)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert (await http.get(at, headers={"range": "bytes=100-200"})).status_code == 503
    intact = await http.get(at, headers={"range": f"bytes={2 * MIB}-{3 * MIB}"})
    assert intact.content == payload[2 * MIB : 3 * MIB + 1]
    damage(5 * MIB + 3)
    got = bytearray()

    async def read() -> None:
        async with http.stream("GET", at) as broken:
            async for piece in broken.aiter_bytes():
                got.extend(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert payload.startswith(bytes(got))
    assert len(got) <= 5 * MIB
    file.unlink()
    assert (await http.get(at)).status_code == 503


async def test_nothing_more_is_read_for_a_reader_who_went_away(
    desk: Desk, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await upload(http, "PARAMETER", bytes(40 * MIB))).json()
    objects = desk.gateway.room.objects
    stream = objects.stream
    read = 0
    ended = asyncio.Event()

    async def counted(path: str, **how: Any) -> AsyncGenerator[memoryview]:
        nonlocal read
        try:
            async for piece in stream(path, **how):
                read += 1
                yield piece
        finally:
            ended.set()

    monkeypatch.setattr(objects, "stream", counted)
    async with http.stream("GET", f"memories/{made['id']}/payload") as answer:
        async for _ in answer.aiter_bytes(1):
            break
    async with asyncio.timeout(10):
        await ended.wait()
    assert read < 40


async def test_links_need_no_credential_and_open_nothing_else(desk: Desk, http: httpx.AsyncClient) -> None:
    payload, later = os.urandom(100_000), os.urandom(100_000)
    made = (await upload(http, "PARAMETER", payload)).json()
    asked = await http.post(f"memories/{made['id']}/payload/url", json={"expires_in": 60})
    link = asked.json()
    assert (asked.status_code, link["size_bytes"], link["checksum"]) == (200, 100_000, made["checksum"])
    assert datetime.fromisoformat(link["expires_at"]) <= datetime.now(UTC) + timedelta(seconds=61)
    async with httpx.AsyncClient() as stranger:
        got = await stranger.get(link["url"])
        assert (got.status_code, got.content) == (200, payload)
        assert (await stranger.get(link["url"], headers={"range": "bytes=0-9"})).content == payload[:10]
        assert (await http.put(f"memories/{made['id']}/payload", content=later)).status_code == 200
        assert (await stranger.get(link["url"])).content == payload  # what it was made for
        base, _, token = link["url"].rpartition("/")
        for place in range(0, len(token), 7):
            other = "A" if token[place] != "A" else "B"
            forged = await stranger.get(f"{base}/{token[:place]}{other}{token[place + 1 :]}")
            assert forged.status_code == 404
        for wrong in (token[:-1], token + "A", "x", "%00"):
            assert (await stranger.get(f"{base}/{wrong}")).status_code == 404
        assert (await http.delete(f"memories/{made['id']}")).status_code == 200
        assert (await stranger.get(link["url"])).status_code == 404
    for seconds in (0, 3601, "x"):
        refused = await http.post(f"memories/{made['id']}/payload/url", json={"expires_in": seconds})
        assert refused.status_code == 422
    assert (await http.post(f"memories/{made['id']}/payload/url", json={})).status_code == 404


async def test_a_link_is_over_when_its_time_is_and_with_its_makers_credential(
    desk: Desk, http: httpx.AsyncClient, project: HouseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await http.post("memories", json={"content": "A text that is linked to."})).json()
    link = (await http.post(f"memories/{made['id']}/payload/url", json={"expires_in": 1})).json()
    lasting = (await http.post(f"memories/{made['id']}/payload/url", json={})).json()
    async with httpx.AsyncClient() as stranger:

        async def over() -> bool:
            return (await stranger.get(link["url"])).status_code == 404

        await eventually(over, within=5, every=0.1)
        assert (await stranger.get(lasting["url"])).text == "A text that is linked to."
        async with admin(desk.database) as connection:
            await connection.execute(
                "update memcube.api_keys set revoked_at = now() where project_id = $1", project.slug
            )
        desk.gateway.room.door.forget_all()
        assert (await stranger.get(lasting["url"])).status_code == 404

"""The door: who is let in, what a body may be, and one form for everything that is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx
import pytest
from tests.fakes.running_gateway import RunningGateway

from memcube_common.security.keys import new_key
from memcube_common.testing.servers import HouseDatabase, HouseProject


def bare(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """An answer without what differs each time."""
    return (
        answer.status_code,
        answer.content,
        {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date", "ratelimit", "ratelimit-policy"}},
    )


async def test_whoever_may_not_come_in_learns_nothing(
    gateway: RunningGateway, database: HouseDatabase, project: HouseProject
) -> None:
    other = await database.project()
    async with httpx.AsyncClient(base_url=gateway.url) as client:

        async def ask(slug: str, key: str) -> tuple[int, bytes, dict[str, str]]:
            return bare(await client.get(f"/v1/projects/{slug}", headers={"authorization": f"Bearer {key}"}))

        foreign = await ask(other.slug, project.key)
        absent = [await ask(slug, project.key) for slug in ("no-such-project", "Not A Slug'--")]
        unknown = [
            await ask(slug, new_key()) for slug in (project.slug, other.slug, "no-such-project", "Not A Slug'--")
        ]

    assert foreign[0] == 404
    assert absent == [foreign] * 2
    assert unknown[0][0] == 401
    assert unknown == [unknown[0]] * 4


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer x", "Basic abc", "Bearer mc_sec_short", "mc_sec_"]
)
async def test_without_a_key_nobody_comes_in(
    gateway: RunningGateway, project: HouseProject, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as client:
        answer = await client.post(f"/v1/projects/{project.slug}/memories/query", json={})

    assert answer.status_code == 401
    assert answer.json()["code"] == "not_signed_in"
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_revoked_key_is_dead_once_it_is_forgotten(
    http: httpx.AsyncClient, gateway: RunningGateway, project: HouseProject, admin_dsn: str
) -> None:
    assert (await http.get(f"receipts/{uuid4()}")).status_code == 404
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute("update memcube.api_keys set revoked_at = now() where project_id = $1", project.slug)
    finally:
        await connection.close()

    gateway.room.door.forget_all()

    assert (await http.get(f"receipts/{uuid4()}")).status_code == 401


async def test_a_body_too_large_is_refused_while_it_streams(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * 1024 * 1024:
            sent += 65_536
            yield b" " * 65_536

    try:
        answer = await http.post("insights", content=endless(), headers={"content-type": "application/json"})
    except httpx.TransportError:
        pass  # the gateway closed before everything was sent, which is the point
    else:
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert answer.headers["connection"] == "close"
    declared = await http.post(
        "insights", content=b" " * (8 * 1024 * 1024 + 1), headers={"content-type": "application/json"}
    )
    assert (declared.status_code, declared.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("route", ["insights", "memories/query", "memories/import"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", {"content-type": "application/json", "content-encoding": "gzip"}, 415, "unsupported_media_type"),
        (b"{", {"content-type": "application/json"}, 400, "malformed"),
        (b"", {"content-type": "application/json"}, 400, "malformed"),
        (b'{"x":' * 5000, {"content-type": "application/json; charset=utf-8"}, 400, "malformed"),
        (b'"text"', {"content-type": "application/json"}, 422, "invalid"),
        (rb'{"text":"\ud800","insight":"\ud800"}', {"content-type": "application/json"}, 422, "invalid"),
        (rb'{"text":"\u0000","insight":"\u0000"}', {"content-type": "application/json"}, 422, "invalid"),
    ],
)
async def test_bad_bodies_are_problem_documents(
    http: httpx.AsyncClient, route: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await http.post(route, content=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("DELETE", "/v1/projects/demo/insights", 405, "method_not_allowed"),
        ("GET", "/v1/projects/demo/insights/", 404, "not_found"),
    ],
)
async def test_unknown_routes_and_methods_are_problem_documents(
    gateway: RunningGateway, method: str, path: str, status: int, code: str
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "insights", "GET, POST"),
        ("POST", "memories/01a20354-b4e7-7454-8ed8-197fc35091cd", "GET, PATCH, DELETE"),
        ("POST", "memories/01a20354-b4e7-7454-8ed8-197fc35091cd/payload", "GET, HEAD, PUT"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_answered_with_those_it_takes(
    http: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await http.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("memories/not-a-uuid", "memory_id"),
        ("receipts/x", "receipt_id"),
        ("receipts/01a20354-b4e7-7454-8ed8-197fc35091cd?wait=soon", "wait"),
        ("receipts/01a20354-b4e7-7454-8ed8-197fc35091cd?timeout=31", "timeout"),
        ("receipts/01a20354-b4e7-7454-8ed8-197fc35091cd?timeout=nan", "timeout"),
        ("changes?after=-1", "after"),
        ("changes?after=9223372036854775808", "after"),
    ],
)
async def test_bad_parameters_are_named(http: httpx.AsyncClient, path: str, field: str) -> None:
    answer = await http.get(path)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_a_request_id_is_given_back_if_it_is_fit_for_a_log(http: httpx.AsyncClient) -> None:
    kept = await http.get("memories/01a20354-b4e7-7454-8ed8-197fc35091cd", headers={"x-request-id": "abc-1"})
    made = await http.get("memories/01a20354-b4e7-7454-8ed8-197fc35091cd", headers={"x-request-id": "a b"})

    assert kept.headers["x-request-id"] == "abc-1"
    assert len(made.headers["x-request-id"]) == 32


async def test_an_unexpected_error_tells_nothing_about_the_inside(
    http: httpx.AsyncClient, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("memcube_gateway.together.read_memories", fails)

    answer = await http.get("memories/01a20354-b4e7-7454-8ed8-197fc35091cd")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "x-request-id" in answer.headers


async def test_operators_are_answered_without_a_key(gateway: RunningGateway, http: httpx.AsyncClient) -> None:
    await http.get("memories/01a20354-b4e7-7454-8ed8-197fc35091cd")
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        alive, ready, metrics = [await client.get(path) for path in ("/livez", "/readyz", "/metrics")]

    assert (alive.status_code, ready.status_code) == (200, 200)
    assert ready.json()["checks"] == {"postgres": "ok", "nats": "ok", "objects": "ok"}
    assert 'route="/v1/projects/{project}/memories/{memory_id}",status="404"' in metrics.text
    assert http.base_url.path.split("/")[3] not in metrics.text


async def test_every_route_is_in_the_reference_with_its_problems(gateway: RunningGateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/docs")).status_code == 200

    operations = [(m, p, o) for p, methods in document["paths"].items() for m, o in methods.items()]
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations) >= 26
    for method, path, operation in operations:
        if operation.get("security") == [] and method == "get":  # anybody may read it: it asks for no credential
            continue
        assert "application/problem+json" in operation["responses"]["401"]["content"], path
        assert "503" in operation["responses"], path
        for described in operation["responses"].values():
            assert "HTTPValidationError" not in str(described), path
        if method == "post" and operation["operationId"] != "sign_out":
            if "requestBody" in operation:  # some say all they have to say in their path
                assert operation["requestBody"]["content"]["application/json"]["examples"], path
            assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]], path
    text = str(document)
    for reference in {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"]

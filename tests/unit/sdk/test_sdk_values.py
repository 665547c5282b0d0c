"""What the client makes of its arguments and of what it is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from memcube import Invalid, MemCubeClient, MemCubeError, NotFound, Patience, Receipt, TooManyRequests, Unavailable
from memcube.bodies import encoded, insight_body, new_id
from memcube.errors import FieldError, kind_of


def test_an_insight_may_be_a_text_a_mapping_or_arguments() -> None:
    identity = new_id()
    expected = {"insight": "Warm the cache.", "tags": ["a"], "id": identity}
    assert insight_body("Warm the cache.", tags=["a"], id=identity) == expected
    assert insight_body({"insight": "Warm the cache.", "tags": ["a"], "id": identity}) == expected
    assert insight_body({"insight": "Warm the cache.", "tags": ["b"]}, tags=("a",), id=identity) == expected


def test_an_insight_without_an_id_gets_a_fresh_one() -> None:
    first, second = insight_body("x")["id"], insight_body("x")["id"]
    assert first != second
    assert first.version == 7


def test_a_body_is_compact_json_in_utf8() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    identity = UUID(int=7)
    body = json.loads(encoded({"t": "Größe", "id": identity, "at": at, "tags": ("a", "b")}))
    assert body == {"t": "Größe", "id": str(identity), "at": "2026-01-02T00:00:00+00:00", "tags": ["a", "b"]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udfff", object(), b"bytes"])
def test_what_json_cannot_say_is_refused_without_repeating_it(value: object) -> None:
    with pytest.raises(Invalid) as refused:
        encoded({"insight": "secret words", "metadata": {"x": value}})
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_pauses_grow_to_their_limit_and_honour_the_server() -> None:
    patience = Patience(total=10, first_pause=0.1, longest_pause=2.0)
    for attempt, whole in ((1, 0.1), (2, 0.2), (3, 0.4), (6, 2.0), (1000, 2.0)):
        assert whole / 2 <= patience.pause(attempt) <= whole
    assert patience.pause(1, after=7.0) == 7.0


@pytest.mark.parametrize(("total", "first", "longest"), [(-1, 1, 1), (1, 0, 1), (1, 2, 1)])
def test_patience_has_bounds(total: float, first: float, longest: float) -> None:
    with pytest.raises(ValueError, match="patience"):
        Patience(total=total, first_pause=first, longest_pause=longest)


def test_an_error_is_known_by_its_code_else_by_its_status() -> None:
    assert kind_of("not_found", 404) is NotFound
    assert kind_of("invented_later", 429) is TooManyRequests
    assert kind_of("too_many_streams", 503) is Unavailable
    assert kind_of(None, 418) is MemCubeError


def test_an_error_reads_as_code_detail_and_fields() -> None:
    error = Invalid("Two fields.", status=422, errors=[FieldError("tags.0", "must not be blank")])
    assert str(error) == "invalid: Two fields. (tags.0: must not be blank)"
    assert NotFound().detail == "There is nothing here that you may see."


@pytest.mark.parametrize(
    ("state", "stored", "searchable", "settled"),
    [
        ("accepted", False, False, False),
        ("stored", True, False, False),
        ("embedded", True, False, False),
        ("searchable", True, True, True),
        ("failed", True, False, True),
        ("parked", False, False, True),
        ("a state of next year", False, False, False),
    ],
)
def test_a_receipt_knows_how_far_it_is(state: str, stored: bool, searchable: bool, settled: bool) -> None:
    receipt = Receipt(id=new_id(), project="demo", state=state)
    assert receipt.has_reached("stored") is stored
    assert receipt.has_reached("searchable") is searchable
    assert receipt.is_settled is settled


async def test_the_project_is_given_or_of_the_environment_or_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMCUBE_PROJECT", raising=False)
    async with MemCubeClient("http://127.0.0.1:1", "k") as client:
        assert client.project == "demo"
    monkeypatch.setenv("MEMCUBE_PROJECT", "shop")
    async with MemCubeClient("http://127.0.0.1:1", "k") as client:
        assert client.project == "shop"
    async with MemCubeClient("http://127.0.0.1:1", "k", "other") as client:
        assert client.project == "other"


@pytest.mark.parametrize(("url", "project"), [("127.0.0.1:80", "demo"), ("ftp://x", "demo"), ("http://x", "../y")])
def test_a_client_refuses_what_cannot_be_an_address_or_a_project(url: str, project: str) -> None:
    with pytest.raises(ValueError, match=r"url|project"):
        MemCubeClient(url, "k", project)

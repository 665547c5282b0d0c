"""Events are public contracts: each has a committed schema and example, and no version of one ever breaks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from docs.generate import REFERENCE, broken, event_schema, subject_of

from memcube_common.contracts.catalog import EVENTS
from memcube_common.contracts.compatibility import breaking_changes
from memcube_common.contracts.events import Event, InsightSubmitted, MemoryChange, MemoryCreated
from memcube_common.streams import streams

Json = dict[str, Any]
Change = Callable[[Json], object]

BREAKING: Sequence[tuple[Change, str]] = [
    (lambda s: s["properties"].pop("label"), "body.label was removed"),
    (lambda s: s["properties"].update(name=s["properties"].pop("label")), "body.label was removed"),
    (lambda s: s["required"].append("changed"), "body.changed became required"),
    (lambda s: s["required"].remove("actor"), "body.actor is not required any more"),
    (lambda s: s["properties"]["version"].update(type="string"), "body.version: type was 'integer', is 'string'"),
    (lambda s: s["properties"]["label"].update(maxLength=50), "body.label: maxLength was 200, is 50"),
    (lambda s: s["properties"]["lifecycle"]["enum"].remove("STALE"), "body.lifecycle: 'STALE' went"),
    (lambda s: s["properties"]["tags"]["items"].update(maxLength=8), "body.tags[]: maxLength was 64, is 8"),
    (lambda s: s["properties"]["type"].update(const="memory.v1.made"), "body.type: const was"),
]

every_event = pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())


def committed(name: str) -> Json:
    return json.loads((REFERENCE / "events" / name).read_text())


def test_the_catalog_holds_every_event_there_is() -> None:
    def named(event: type[Event]) -> set[str]:
        own = {event.type} if "type" in vars(event) else set[str]()
        return own.union(*(named(kind) for kind in event.__subclasses__()))

    assert named(Event) == set(EVENTS)


@every_event
def test_the_example_is_read_and_carries_no_field_that_the_schema_lacks(event: type[Event]) -> None:
    body, schema = committed(f"{event.type}.example.json"), committed(f"{event.type}.json")

    event.model_validate(body)

    assert set(schema["required"]) <= set(body) <= set(schema["properties"])


@every_event
def test_a_reader_ignores_fields_it_does_not_know(event: type[Event]) -> None:
    body = committed(f"{event.type}.example.json")

    assert event.model_validate({**body, "of_a_later_version": {"a": 1}}) == event.model_validate(body)


@every_event
def test_the_subject_lies_in_exactly_the_stream_the_event_names(event: type[Event]) -> None:
    subject = event.subject("demo", "agent-7" if event.per_agent else None)

    holding = [s.name for s in streams() if any(matches(pattern, subject) for pattern in s.subjects or [])]

    assert holding == [event.stream]
    assert subject == subject_of(event).format(project="demo", agent="agent-7")


@every_event
def test_an_agent_is_named_exactly_where_the_subject_has_a_place_for_one(event: type[Event]) -> None:
    with pytest.raises(ValueError, match="an agent is"):
        event.subject("demo", None if event.per_agent else "agent-7")


@pytest.mark.parametrize("event", [e for e in EVENTS.values() if issubclass(e, MemoryChange)])
def test_a_memory_change_never_carries_content(event: type[Event]) -> None:
    assert not {"content", "insight", "text", "metadata", "embedding"} & set(event.model_fields)


def test_no_event_breaks_what_is_committed() -> None:
    assert broken(REFERENCE) == []


def test_a_new_optional_field_breaks_nobody() -> None:
    new = changed(MemoryCreated, lambda s: s["properties"].update(colour={"type": "string", "default": "grey"}))

    assert breaking_changes(event_schema(MemoryCreated), new) == []


@pytest.mark.parametrize(("change", "said"), BREAKING)
def test_anything_else_breaks_somebody_and_is_named(change: Change, said: str) -> None:
    found = breaking_changes(event_schema(MemoryCreated), changed(MemoryCreated, change))

    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_change_inside_a_shared_part_is_found() -> None:
    new = changed(InsightSubmitted, lambda s: s["$defs"]["Governance"]["properties"].pop("pin"))

    assert [f.rpartition(".")[2] for f in breaking_changes(event_schema(InsightSubmitted), new)] == ["pin was removed"]


def changed(event: type[Event], change: Change) -> Json:
    schema = copy.deepcopy(event_schema(event))
    change(schema)
    return schema


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS subject pattern takes `subject`: '*' is one token, '>' is one or more at the end."""
    wanted, given = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(given) > place
        if place >= len(given) or token not in ("*", given[place]):
            return False
    return len(wanted) == len(given)

"""Hostile values at every field from outside: refused, each with the path of its field, and never echoed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from memcube_common.contracts.api import ImportedMemory, InsightSubmission
from memcube_common.contracts.asks import EmbedTexts
from memcube_common.contracts.events import InsightSubmitted
from memcube_common.ids import new_id

Path = tuple[str | int, ...]


def nested(depth: int) -> dict[str, Any]:
    """An object of `depth` objects, one inside the other."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


NUL = "canary\x00canary"
SURROGATE = "canary\ud800canary"
SOUND: dict[type[BaseModel], dict[str, Any]] = {
    InsightSubmission: {"insight": "x"},
    InsightSubmitted: {"id": str(new_id()), "insight": "x"},
    ImportedMemory: {"id": "x", "content": "x"},
}
CONTENT: dict[type[BaseModel], str] = {
    InsightSubmission: "insight",
    InsightSubmitted: "insight",
    ImportedMemory: "content",
}

TEXT_FAULTS: dict[str, Any] = {"nul": NUL, "surrogate": SURROGATE, "number": 7, "list": ["a"], "empty": ""}
LINE_FAULTS: dict[str, Any] = {**TEXT_FAULTS, "blank": " \t ", "newline": "a\nb", "escape": "a\x1bb", "c1": "a\x85b"}
CONTENT_FAULTS: dict[str, Any] = {
    **TEXT_FAULTS,
    "none": None,
    "blank": "  \n\t\u2003",
    "64 KiB + 1": "a" * (64 * 1024 + 1),
    "64 KiB + 1 in umlauts": "ä" * (32 * 1024) + "a",
}
JSON_FAULTS: dict[str, Any] = {
    "nul in a value": {"a": NUL},
    "nul in a key": {NUL: 1},
    "surrogate in a value": {"a": [SURROGATE]},
    "surrogate in a key": {SURROGATE: 1},
    "nan": {"a": float("nan")},
    "infinity": {"a": {"b": [float("inf")]}},
    "2^63": {"a": 2**63},
    "-2^63 - 1": {"a": -(2**63) - 1},
    "5,000 digits": {"a": 10**5000},
    "33 deep": nested(33),
    "500 deep": nested(500),
    "16 KiB + 1": {"a": "x" * (16 * 1024 - 7)},
    "a list": [],
    "a string": "{}",
    "not json": {"a": {1, 2}},
}


def shared_faults() -> list[tuple[str, Any, Path]]:
    """(what, value of the top field, path of the fault) for fields all three bodies have."""
    faults: list[tuple[str, Any, Path]] = []
    faults += [(f"label {k}", v, ("label",)) for k, v in {**LINE_FAULTS, "201": "a" * 201}.items()]
    for what, value in {**LINE_FAULTS, "65": "a" * 65}.items():
        faults.append((f"tags.1 {what}", ["fine", value], ("tags", 1)))
    faults += [("tags 65", [str(n) for n in range(65)], ("tags",)), ("tags text", "a", ("tags",))]
    faults += [(f"metadata {k}", v, ("metadata",)) for k, v in JSON_FAULTS.items()]
    faults += [("priority", "hot", ("priority",)), ("priority number", 1, ("priority",))]
    governance: list[tuple[str, dict[str, Any], Path]] = [
        ("unknown", {"reed_roles": []}, ("reed_roles",)),
        ("role", {"read_roles": ["ROOT"]}, ("read_roles", 0)),
        ("too many roles", {"read_roles": ["AGENT"] * 7}, ("read_roles",)),
        ("ttl 0", {"ttl_days": 0}, ("ttl_days",)),
        ("ttl huge", {"ttl_days": 10**5000}, ("ttl_days",)),
        ("ttl nan", {"ttl_days": float("nan")}, ("ttl_days",)),
        ("no time zone", {"expires_at": "2026-01-01T00:00:00"}, ("expires_at",)),
        ("year 0", {"expires_at": "0000-01-01T00:00:00Z"}, ("expires_at",)),
        ("year 1 moved below", {"expires_at": "0001-01-01T00:00:00+14:00"}, ("expires_at",)),
        ("year 9999 moved beyond", {"expires_at": "9999-12-31T23:59:59-14:00"}, ("expires_at",)),
        ("license nul", {"license": NUL}, ("license",)),
        ("license surrogate", {"license": SURROGATE}, ("license",)),
        ("principal nul", {"principals": {"allow": ["a", NUL]}}, ("principals", "allow", 1)),
        ("principals", {"principals": {"deny": ["a"] * 257}}, ("principals", "deny")),
        ("half life", {"decay": {"half_life_days": float("inf")}}, ("decay", "half_life_days")),
        ("floor nan", {"decay": {"floor": float("nan")}}, ("decay", "floor")),
        ("pii", {"pii_kinds": [NUL]}, ("pii_kinds", 0)),
        ("visibility", {"visibility": "all"}, ("visibility",)),
    ]
    for what, value, path in governance:
        faults.append((f"governance {what}", value, ("governance", *path)))
    return faults


def own_faults() -> list[tuple[type[BaseModel], str, Any, Path]]:
    """Faults of the fields that only some bodies have."""
    faults: list[tuple[type[BaseModel], str, Any, Path]] = []
    for body, field in CONTENT.items():
        faults += [(body, f"{field} {k}", v, (field,)) for k, v in CONTENT_FAULTS.items()]
    for body in (InsightSubmission, InsightSubmitted):
        for what, value in {**TEXT_FAULTS, "513": "a" * 513}.items():
            faults.append((body, f"evidence_refs.0 {what}", [value], ("evidence_refs", 0)))
        faults.append((body, "evidence_refs 65", ["a"] * 65, ("evidence_refs",)))
        for value in (1.01, -1.01, float("nan"), float("inf"), "much", 10**400):
            faults.append((body, f"sentiment {str(value)[:9]}", value, ("sentiment",)))
        for value in ("x", "7d444840-9dc0-11d1-b245-5ffdce74fad2", 7, NUL):
            faults.append((body, f"id {value!r}", value, ("id",)))
    for body, field in ((InsightSubmission, "agent_id"), (ImportedMemory, "created_by")):
        for value in ("", "a.b", "a*", "a>", "a b", "a\n", NUL, SURROGATE, "a" * 65, "ä"):
            faults.append((body, f"{field} {value[:9]!r}", value, (field,)))
    for value in ("", NUL, SURROGATE, "a" * 201, 7):
        faults.append((ImportedMemory, f"id {str(value)[:9]!r}", value, ("id",)))
    for value in ("2026-01-01T00:00:00", "yesterday", 1e400, "9999-12-31T23:59:59-01:00"):
        faults.append((ImportedMemory, f"created_at {value}", value, ("created_at",)))
    for body in (InsightSubmission, ImportedMemory):
        faults.append((body, "unknown field", 1, ("unknown",)))
    return faults


FAULTS = [
    *((body, what, value, path) for body in SOUND for what, value, path in shared_faults()),
    *own_faults(),
]


@pytest.mark.parametrize(
    ("body", "value", "path"),
    [(body, value, path) for body, _, value, path in FAULTS],
    ids=[f"{body.__name__} {what}".encode("unicode_escape").decode() for body, what, _, _ in FAULTS],
)
def test_a_hostile_value_is_refused_at_its_field(body: type[BaseModel], value: Any, path: Path) -> None:
    with pytest.raises(ValidationError) as refusal:
        body.model_validate({**SOUND[body], str(path[0]): value})
    faults = refusal.value.errors(include_url=False, include_input=False, include_context=False)
    assert any(fault["loc"][: len(path)] == path for fault in faults)
    assert len(faults) == 1 or all(fault["loc"][0] == path[0] for fault in faults)
    assert "canary" not in str(refusal.value) or any("canary" in str(fault["loc"]) for fault in faults)


@pytest.mark.parametrize("body", list(SOUND), ids=lambda body: body.__name__)
@pytest.mark.parametrize(
    "written",
    [
        '{"a": 1e400}',
        '{"a": -1e400}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": "\\u0000"}',
        '{"a": "\\ud800"}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": ' * 100_000 + "1" + "}" * 100_000,
    ],
    ids=["1e400", "-1e400", "NaN", "Infinity", "NUL", "surrogate", "5,000 digits", "deep list", "deep object"],
)
def test_hostile_json_text_is_refused(body: type[BaseModel], written: str) -> None:
    text = json.dumps(SOUND[body])[:-1] + f', "metadata": {written}}}'
    with pytest.raises(ValidationError):
        body.model_validate_json(text)


@pytest.mark.parametrize(("field", "limit"), [("label", 200), ("tags", 64)])
def test_what_is_too_long_once_composed_is_refused(field: str, limit: int) -> None:
    grows = "\u0958"  # two characters in NFC, which excludes it from composition
    for many in (limit // 2, limit // 2 + 1, limit):
        said = {**SOUND[InsightSubmission], field: grows * many if field == "label" else [grows * many]}
        if 2 * many <= limit:
            InsightSubmission.model_validate(said)
            continue
        with pytest.raises(ValidationError, match=f"at most {limit} characters"):
            InsightSubmission.model_validate(said)


@pytest.mark.parametrize("body", list(SOUND), ids=lambda body: body.__name__)
def test_the_limits_themselves_are_accepted(body: type[BaseModel]) -> None:
    taken = body.model_validate(
        {
            **SOUND[body],
            CONTENT[body]: "ä" * (32 * 1024),
            "label": "\U0001f600" * 200,
            "tags": ["t" * 64, *(str(n) for n in range(63))],
            "metadata": {"max": 2**63 - 1, "min": -(2**63), "deep": nested(31), "null": None, "list": [True, 0.5]},
            "governance": {"expires_at": "9999-12-30T00:00:00Z", "ttl_days": 36500},
        }
    )
    assert len(getattr(taken, "tags")) == 64  # noqa: B009


def test_metadata_of_exactly_16_kib_is_accepted_and_one_byte_more_is_not() -> None:
    def of(size: int) -> dict[str, Any]:
        return {"insight": "x", "metadata": {"a": "ä" * ((size - 8) // 2) + "x" * ((size - 8) % 2)}}

    InsightSubmission.model_validate(of(16 * 1024))
    with pytest.raises(ValidationError):
        InsightSubmission.model_validate(of(16 * 1024 + 1))


def test_repeated_tags_are_dropped_and_order_is_kept() -> None:
    assert InsightSubmission(insight="x", tags=["b", "a", "b", "A", "a"]).tags == ["b", "a", "A"]


def test_events_ignore_fields_they_do_not_know_and_doors_do_not() -> None:
    InsightSubmitted.model_validate({**SOUND[InsightSubmitted], "of_tomorrow": 1})
    with pytest.raises(ValidationError):
        InsightSubmission.model_validate({"insight": "x", "of_tomorrow": 1})


@pytest.mark.parametrize("texts", [[], ["x"] * 65, [NUL], [SURROGATE], "x", None])
def test_hostile_asks_are_refused(texts: Any) -> None:
    with pytest.raises(ValidationError):
        EmbedTexts.model_validate({"texts": texts})

"""One message in a hundred is poison: it is set aside with its reason, and the other ninety-nine never notice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import nats
import orjson
import pytest
from tests.e2e.audit import audit, settled
from tests.e2e.load import Ledger, text_of
from tests.e2e.running_stack import RunningStack, eventually
from tests.faults.conftest import Say

from memcube_common.ids import new_id

MESSAGES = 2_000
ONE_IN = 100
PARKED_WITHIN = 60.0
PROJECT = "poisoned"
LATER = "made-later"


def _insight(**changes: object) -> bytes:
    return orjson.dumps({"id": str(new_id()), "insight": "Something true.", **changes})


# What it is, the body, and where it is sent if not to the project: each must be set aside, none may be kept.
POISONS: tuple[tuple[str, Callable[[], bytes], str], ...] = (
    ("no JSON", lambda: b"not json at all", PROJECT),
    ("cut JSON", lambda: _insight()[:-7], PROJECT),
    ("another type", lambda: b"[1, 2, 3]", PROJECT),
    ("no insight", lambda: orjson.dumps({"id": str(new_id())}), PROJECT),
    ("blank", lambda: _insight(insight="   "), PROJECT),
    ("NUL", lambda: _insight(insight="a\0b"), PROJECT),
    ("lone surrogate", lambda: b'{"id": "%s", "insight": "a\\ud800b"}' % str(new_id()).encode(), PROJECT),
    ("an id of version 4", lambda: _insight(id=str(uuid4())), PROJECT),
    ("tags of a wrong type", lambda: _insight(tags={"a": 1}), PROJECT),
    ("too long", lambda: _insight(insight="x" * 65_537), PROJECT),
    ("too deep", lambda: _insight(metadata=_nested(60)), PROJECT),
    ("an infinite number", lambda: _insight(metadata={})[:-3] + b'{"a":1e400}}', PROJECT),
    ("a misspelt governance", lambda: _insight(governance={"reed_roles": []}), PROJECT),
    ("bytes that are not UTF-8", lambda: b'{"id": "x", "insight": "\xff\xfe"}', PROJECT),
    ("nothing", lambda: b"", PROJECT),
    ("no such project", _insight, LATER),
    ("a name that is no project", _insight, "No_Project"),
)


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.timeout(180)
async def test_poison_is_set_aside_with_reasons_and_everything_else_is_stored(
    stack: RunningStack, ledger: Ledger, seed: int, say: Say
) -> None:
    await stack.key_of(PROJECT)
    chance = random.Random(seed)
    poisons = [POISONS[number % len(POISONS)] for number in range(MESSAGES // ONE_IN)]
    letters: list[tuple[str, bytes]] = [(project, make()) for _, make, project in poisons]
    ids = [new_id() for _ in range(MESSAGES - len(poisons))]
    letters += [(PROJECT, orjson.dumps({"id": str(id), "insight": text_of(id)})) for id in ids]
    chance.shuffle(letters)
    ledger.send(PROJECT, ids)
    bus = await nats.connect(stack.nats)
    jetstream = bus.jetstream(timeout=10)
    began = time.monotonic()
    for project, body in letters:
        await jetstream.publish(f"memcube.{project}.insight.v1.submitted.loader", body, stream="INSIGHTS")
    await bus.close()
    ledger.ack(PROJECT, ids, "nats")

    async def all_parked() -> list[list[str]]:
        rows = await _parked(stack)
        return rows if len(rows) >= len(poisons) else []

    rows = await eventually(all_parked, within=PARKED_WITHIN, every=0.5, what="all poison set aside")
    say(f"{len(rows)} of {len(poisons)} poisoned messages set aside {time.monotonic() - began:.1f} s after the first")
    await settled(stack, [PROJECT], within=60)
    assert len(rows) == len(poisons)
    assert all(row[5].strip() for row in rows), "every one has its reason"
    found = await audit(stack, ledger)
    say(str(found))
    assert found.mistakes == {}
    assert found.stored == len(ids)
    await _the_operator_looks_after_them(stack, rows)


async def _the_operator_looks_after_them(stack: RunningStack, rows: list[list[str]]) -> None:
    """Show one, replay one whose cause is gone, replay one that is poison still, drop one."""
    curable = next(row for row in rows if row[2] == LATER)
    shown = await stack.memcube("parked", "show", curable[1])
    assert shown.code == 0, shown
    assert "the project does not exist" in shown.out
    assert "Something true." in shown.out
    body = orjson.loads(shown.out[shown.out.index("{") :])
    made = await stack.memcube("project", "create", LATER)
    assert made.code == 0, made
    replayed = await stack.memcube("parked", "replay", curable[1])
    assert replayed.code == 0, replayed
    await settled(stack, [LATER], within=30)
    found = await stack.memcube("query", "something true", "--project", LATER)
    assert "Something true." in found.out, found
    assert UUID(body["id"]).version == 7
    assert curable[1] not in {row[1] for row in await _parked(stack)}

    hopeless = next(row for row in rows if row[2] == PROJECT)
    assert (await stack.memcube("parked", "replay", hopeless[1])).code == 0
    await eventually(lambda: _is_parked_for(stack, hopeless[5], len(rows) - 1), within=30, what="set aside again")

    last = (await _parked(stack))[0]
    dropped = await stack.memcube("parked", "drop", last[1], "--yes")
    assert dropped.code == 0, dropped
    assert last[1] not in {row[1] for row in await _parked(stack)}


async def _parked(stack: RunningStack) -> list[list[str]]:
    """When, id, project, stream, tries and reason of everything that was set aside."""
    said = await stack.memcube("parked", "list", "--limit", "10000")
    assert said.code == 0, said
    return [line.split("\t") for line in said.out.splitlines()]


async def _is_parked_for(stack: RunningStack, reason: str, many: int) -> bool:
    rows = await _parked(stack)
    return len(rows) == many and any(row[5] == reason for row in rows)

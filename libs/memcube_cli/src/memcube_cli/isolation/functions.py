"""Calls of the definer functions: with the settings of the first tenant, and what belongs to the second."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from memcube_cli.isolation.rows import GENERATION, Pair
from memcube_cli.isolation.rules import Actor, Row, may_read


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function: what it may answer at most, and what it must."""

    actor: Actor
    sql: str
    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()


SILENT: Final[Mapping[str, str]] = {
    "enter_feed": "takes a lock, reads nothing",
    "maintain_partitions": "makes and drops partitions by date, takes no name",
}
"""Definer functions that take nothing and tell nothing, and why."""


def calls_of(pair: Pair, rows: Mapping[str, Sequence[Row]]) -> dict[str, list[Call]]:
    """Every call, by the function's name; `rows` are what both tenants have, by table."""
    readers = [
        Actor("memcube_user", pair.a, handle, role)
        for handle, role in (("olga", "OWNER"), ("mia", "MEMBER"), ("bob", "AGENT"), ("vic", "VIEWER"))
    ]
    public = Actor("memcube_anon", pair.a, "key4", "PUBLIC")
    worker = Actor("memcube_worker", pair.a, "room:ingestion")
    memories = rows["memories"]
    ids = {str(row["id"]): row for row in memories}
    indexed = {str(row["memory_id"]) for row in rows["memory_text"]}
    every = "array[" + ", ".join(f"'{id}'" for id in ids) + "]::uuid[]"
    theirs = "array[" + ", ".join(f"'{id}'" for id, row in ids.items() if row["project_id"] == pair.b) + "]::uuid[]"

    def readable(actor: Actor, among: Collection[str]) -> frozenset[str]:
        return frozenset(id for id in among if may_read(actor, ids[id]))

    def candidates(sql: str) -> list[Call]:
        return [Call(a, sql, readable(a, indexed), readable(a, indexed)) for a in (*readers, public)]

    def nothing(sql: str, *actors: Actor) -> list[Call]:
        return [Call(actor, sql) for actor in actors or (*readers, public)]

    def anything(sql: str, actor: Actor, answers: Collection[str]) -> list[Call]:
        """Called by a request or room, and by the owner itself where nobody else may call it."""
        return [Call(one, sql, frozenset(answers)) for one in (actor, Actor("memcube_quota", pair.a))]

    paid = {str(row["memory_id"]) for row in rows["memory_payloads"]}
    vectors = sum(row["project_id"] == pair.a for row in rows["memory_vectors"])
    counted = frozenset({str(vectors)})
    truth = ("True", "False", "None", "")
    user = readers[1]
    return {
        "text_candidates": candidates("select memory_id from memcube.text_candidates('verify', '{}', 1000, 1000)")
        + candidates("select memory_id from memcube.text_candidates('verify', '{verify}', 1000, 1000)"),
        "tag_candidates": candidates("select memory_id from memcube.tag_candidates('{verify}', 1000)"),
        "vector_candidates": candidates(
            f"select memory_id from memcube.vector_candidates({GENERATION}::smallint, '[1,2]', '{{}}', 1000, 0)"
        )
        + candidates(
            f"select memory_id from memcube.vector_candidates({GENERATION}::smallint, '[1,2]', '{{}}', 1000, 1000)"
        ),
        "vector_distances": nothing(
            f"select memory_id from memcube.vector_distances({GENERATION}::smallint, '[1,2]', {theirs})"
        ),
        "count_vectors": [
            Call(actor, f"select memcube.count_vectors({GENERATION}::smallint, 1000)", counted, counted)
            for actor in (*readers, public)
        ],
        "contents": [
            Call(
                actor, f"select memory_id from memcube.contents({every})", readable(actor, paid), readable(actor, paid)
            )
            for actor in (*readers, public)
        ],
        "claim_work": nothing(
            "select item_id from memcube.claim_work('insight', 100, '1 s')",
            Actor("memcube_worker", pair.a, "room:gateway"),
            Actor("memcube_worker", pair.a),
            Actor("memcube_worker"),
        ),
        "announce_receipts": anything(
            "select memcube.announce_receipts('receipt.v1.stored', '{ada}', "
            f"({theirs})[1:1], ({theirs})[1:1], '{{x}}')",
            worker,
            truth,
        ),
        "hold_sources": anything(f"select memcube.hold_sources({theirs})", user, truth),
        "note_denials": anything("select memcube.note_denials('{x}', '{x}', '{x}', '{1}')", worker, truth),
        "take_quota": anything("select memcube.take_quota('memories', 1)", Actor("memcube_quota", pair.a), truth),
        "take_quotas": anything("select memcube.take_quotas('{memories}', '{1}')", user, (*truth, "memories")),
        "exhaust_quota": anything("select memcube.exhaust_quota('memories')", user, truth),
        "read_quotas": anything("select used from memcube.read_quotas() where resource = 'memories'", user, ("0",)),
        "set_quota": anything(
            "select memcube.set_quota('memories', 1)", Actor("memcube_operator", pair.a, "operator"), truth
        ),
        "announce_quota": anything(
            "select memcube.announce_quota('quota.v1.warned', 'memories', 1, 1)", Actor("memcube_quota", pair.a), truth
        ),
        "open_quota": anything("select memcube.open_quota('bytes')", Actor("memcube_quota", pair.a), truth),
        "settle_quota": anything(
            "select memcube.settle_quota('memories', 1, false)", Actor("memcube_quota", pair.a), truth
        ),
    }

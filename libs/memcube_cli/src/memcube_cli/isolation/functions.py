"""Calls of the definer functions: with the settings of the first tenant, and what belongs to the second."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from memcube_cli.isolation.pair import GENERATION, Pair
from memcube_cli.isolation.rules import Actor, Row, may_read, rule_of


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
    ours = "array[" + ", ".join(f"'{id}'" for id, row in ids.items() if row["project_id"] == pair.a) + "]::uuid[]"
    theirs = "array[" + ", ".join(f"'{id}'" for id, row in ids.items() if row["project_id"] == pair.b) + "]::uuid[]"

    def readable(actor: Actor, among: Collection[str]) -> frozenset[str]:
        return frozenset(id for id in among if may_read(actor, ids[id]))

    def candidates(sql: str) -> list[Call]:
        return [Call(a, sql, readable(a, indexed), readable(a, indexed)) for a in (*readers, public)]

    insights = {str(row["id"]): row for row in rows["insights"] if row["project_id"] == pair.a}
    learned = "array[" + ", ".join(f"'{row['id']}'" for row in rows["insights"]) + "]::uuid[]"
    words = f"'\\x{pair.hash(pair.b, 'fingerprint')}'::bytea"
    told = f"'\\x{pair.hash(pair.b, 'recall', '0')}'::bytea"

    def seen(actor: Actor) -> frozenset[str]:
        return frozenset(
            id
            for id, row in insights.items()
            if actor.privileged or row["agent_id"] == actor.principal or may_read(actor, ids[str(row["memory_id"])])
        )

    def supported(actor: Actor) -> frozenset[str]:
        return frozenset() if actor.role == "VIEWER" else seen(actor)

    def nothing(sql: str, *actors: Actor) -> list[Call]:
        return [Call(actor, sql) for actor in actors or (*readers, public)]

    def anything(sql: str, actor: Actor, answers: Collection[str]) -> list[Call]:
        """Called by a request or room, and by the owner itself where nobody else may call it."""
        return [Call(one, sql, frozenset(answers)) for one in (actor, Actor("memcube_quota", pair.a))]

    def array(among: Collection[object]) -> str:
        return "array[" + ", ".join(f"'{id}'" for id in among) + "]::uuid[]"

    def chained(actor: Actor) -> frozenset[str]:
        seen = {row["id"] for row in rows["chains"] if rule_of("chains", "memcube_user").select(actor, row)}
        return readable(actor, {str(row["memory_id"]) for row in rows["chain_items"] if row["chain_id"] in seen})

    linked = {str(row["memory_id"]) for row in rows["memory_task_links"]}
    own_chains = array([row["id"] for row in rows["chains"] if row["project_id"] == pair.a])
    their_chains = array([row["id"] for row in rows["chains"] if row["project_id"] == pair.b])
    arrived = [f"('{row['project_id']}', '{row['key']}')" for row in rows["objects"]]
    paid = {str(row["memory_id"]) for row in rows["memory_payloads"]}
    vectors = sum(row["project_id"] == pair.a for row in rows["memory_vectors"])
    counted = frozenset({str(vectors)})
    truth = ("True", "False", "None", "")
    changed = sum(row["project_id"] == pair.a for row in rows["changes"])
    user = readers[1]
    return {
        "word_candidates": candidates(
            "select memory_id from memcube.word_candidates('{verify}', '{1}', '{0}', '{}', 1000, 1000)"
        )
        + candidates("select memory_id from memcube.word_candidates('{verify}', '{1}', '{0}', '{verify}', 1000, 1000)"),
        "text_details": [
            Call(
                actor,
                f"select u from memcube.text_details('{{verify}}', '{{1}}', '{{verify}}', {GENERATION}::smallint,"
                f" '[1,2]', {every}, 1000) d cross join lateral unnest(array[d.memory_id, d.previous, d.following]) u"
                " where u is not null",
                readable(actor, indexed),
                readable(actor, indexed),
            )
            for actor in (*readers, public)
        ],
        "question_terms": [
            Call(actor, f"select n from memcube.question_terms('simple', '{asked}', ''), unnest(counts) n", told, told)
            for actor in (*readers, public)
            for asked, told in (
                ("verify", frozenset({"1" if actor.role in {"VIEWER", "PUBLIC"} else "3"})),
                (pair.hash(pair.b, "term"), frozenset({"0"})),
            )
        ],
        "common_words": nothing(f"select memcube.common_words('simple', '{{{pair.hash(pair.b, 'term')}}}', 0.01)"),
        "uncounted_projects": nothing(
            "select memcube.uncounted_projects(1000)",
            Actor("memcube_worker", pair.a, "room:gateway"),
            Actor("memcube_worker", pair.a),
            Actor("memcube_worker"),
        ),
        "fold_terms": [
            Call(
                Actor("memcube_worker", "", "room:lifecycle"), "select memcube.fold_terms(null, 1000)", frozenset({"0"})
            )
        ],
        "tag_candidates": candidates("select memory_id from memcube.tag_candidates('{verify}', null, 1000)")
        + candidates("select memory_id from memcube.tag_candidates(null, '{verify,else}', 1000)"),
        "vector_candidates": candidates(
            f"select memory_id from memcube.vector_candidates({GENERATION}::smallint, '[1,2]', '{{}}', 1000, 0)"
        )
        + candidates(
            f"select memory_id from memcube.vector_candidates({GENERATION}::smallint, '[1,2]', '{{}}', 1000, 1000)"
        )
        + candidates(  # by way of the graph
            f"select memory_id from memcube.vector_candidates({GENERATION}::smallint, '[1,2]', '{{}}', 1000, -1000)"
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
        "version_contents": [
            Call(
                actor,
                f"select memory_id from pg_catalog.unnest({every}) w (id), memcube.version_contents(w.id, 1)",
                readable(actor, paid),
                readable(actor, paid),
            )
            for actor in readers
        ],
        "versions": [
            Call(
                actor,
                f"select w.id from pg_catalog.unnest({every}) w (id), memcube.versions(w.id, 9, 9)",
                readable(actor, paid),
                readable(actor, paid),
            )
            for actor in readers
        ],
        "lineage": [
            Call(
                actor,
                f"select memory_id from pg_catalog.unnest({every}) w (id), memcube.lineage(w.id, 9, 9)",
                readable(actor, ids),
            )
            for actor in readers
        ],
        "revise_content": anything(
            f"select memcube.revise_content(({ours})[1], 'x', null, null, null, null, null, null, null, null, null,"
            " 0::smallint)",
            user,
            truth,
        ),
        "derived_from": nothing(
            f"select w.id from pg_catalog.unnest({theirs}) w (id), memcube.derived_from(w.id, 9)", *readers
        ),
        "mark_personal": nothing(
            f"select memcube.mark_personal(w.id, '{{email}}') from pg_catalog.unnest({theirs}) w (id)", *readers
        ),
        "link_memories": [
            Call(
                actor,
                f"select memory_id from memcube.link_memories('other', 'READ', {every})",
                readable(actor, ids),
                readable(actor, ids),
            )
            for actor in readers[:3]
        ],
        "unlink_memory": nothing(
            f"select role from pg_catalog.unnest({theirs}) w (id), memcube.unlink_memory('verify', w.id, null)",
            *readers,
        ),
        "task_memories": [
            Call(
                actor,
                "select memory_id from memcube.task_memories('verify', null, null, 1000)",
                readable(actor, linked),
                readable(actor, linked),
            )
            for actor in readers
        ]
        + [
            Call(
                actor,
                "select count(*) from memcube.task_memories('verify', null, null, 1)",
                frozenset({str(min(1, len(readable(actor, linked))))}),
            )
            for actor in readers
        ],
        "memory_tasks": [
            Call(
                actor,
                f"select w.id from pg_catalog.unnest({every}) w (id), memcube.memory_tasks(w.id, '', 10)",
                readable(actor, linked),
                readable(actor, linked),
            )
            for actor in readers
        ],
        "tasks": [
            Call(
                actor,
                "select reads + writes from memcube.tasks('', 10)",
                frozenset({str(len(readable(actor, linked)))}),
                frozenset({str(len(readable(actor, linked)))}),
            )
            for actor in readers
        ],
        "begin_chain": anything(
            f"select memcube.begin_chain('{pair.id(pair.a, 'new chain')}', 'x', null, 'project', '{{}}', {theirs})",
            user,
            ("missing",),
        ),
        "arrange_chain": anything(f"select memcube.arrange_chain(({their_chains})[1], '{{}}', 100)", user, ("None",))
        + anything(f"select memcube.arrange_chain(({own_chains})[1], {theirs}, 100)", user, ("missing", "None")),
        "chain_members": [
            Call(
                actor,
                f"select memory_id from memcube.chain_members({own_chains} || {their_chains})",
                chained(actor),
                chained(actor),
            )
            for actor in readers
        ],
        "read_insights": [
            Call(actor, f"select id from memcube.read_insights({learned})", seen(actor), seen(actor))
            for actor in readers
        ],
        "list_insights": [
            Call(
                actor,
                "select (entry).id from memcube.list_insights(null, null, null, null, null, "
                "'ffffffff-ffff-ffff-ffff-ffffffffffff', 1000, 1000)",
                seen(actor),
                seen(actor),
            )
            for actor in readers
        ],
        "support_insight": [
            Call(
                actor,
                f"select i from unnest({learned}) i where memcube.support_insight(i, '{{}}', null)",
                supported(actor),
            )
            for actor in readers
        ],
        "weigh_insights": nothing(
            f"select memory_id from memcube.weigh_insights(({theirs})[1:1], '{{ada}}', array[{words}], array['{{}}'], "
            f"({theirs})[1:1], array[{told}], '1 h')",
            *readers,
        ),
        "take_mark": [
            Call(actor, "select settled from memcube.take_mark()", frozenset({"3"}), frozenset({"3"}))
            for actor in readers
        ],
        "mark_holds": [
            Call(
                actor,
                f"select memcube.mark_holds(0, '2000-01-01', {changed}, 3, counted, null) from memcube.take_mark()",
                frozenset({"True"}),
                frozenset({"True"}),
            )
            for actor in readers
        ],
        "say_outcomes": [
            Call(
                actor,
                f"select memcube.say_outcomes('{pair.id(pair.b, 'schedule', 'bob', '1')}', ({theirs})[1:1], "
                "'{used}')",
                frozenset({"None"}),
            )
            for actor in readers
        ]
        + [
            Call(
                actor,
                f"select memcube.say_outcomes('{pair.id(pair.a, 'schedule', 'bob', '1')}', ({theirs})[1:1], "
                "'{used}')",
                frozenset({"None", "3"}),
            )
            for actor in readers
        ],
        **{
            name: nothing(
                f"select project_id from memcube.{name}({asked})",
                Actor("memcube_worker", pair.a, "room:gateway"),
                Actor("memcube_worker", pair.a),
                Actor("memcube_worker"),
            )
            for name, asked in (
                ("projects_to_recall", "100"),
                ("projects_to_settle", "'0', '0', 100"),
                ("projects_to_recommend", "'0', 100"),
            )
        },
        "forget_recalls": [
            Call(actor, "select memcube.forget_recalls(1000)", frozenset({"0"}), frozenset({"0"}))
            for actor in (Actor("memcube_worker", pair.a, "room:gateway"), Actor("memcube_worker"))
        ],
        "pinned_memories": [
            Call(actor, "select memory_id from memcube.pinned_memories(1000)", readable(actor, ids))
            for actor in readers
        ],
        "extents": [
            Call(
                actor,
                f"select memory_id from memcube.extents({every}, true)",
                readable(actor, paid),
                readable(actor, paid),
            )
            for actor in readers
        ],
        "forget_schedules": [
            Call(actor, "select memcube.forget_schedules(1, 1000)", frozenset({"0"}), frozenset({"0"}))
            for actor in (Actor("memcube_worker", pair.a, "room:gateway"), Actor("memcube_worker"))
        ],
        "give_back_quotas": anything("select memcube.give_back_quotas(1, 1)", worker, truth),
        "claim_work": nothing(
            "select item_id from memcube.claim_work('insight', 100, '1 s')",
            Actor("memcube_worker", pair.a, "room:gateway"),
            Actor("memcube_worker", pair.a),
            Actor("memcube_worker"),
        ),
        "claim_objects": nothing(
            "select key from memcube.claim_objects(now() + interval '1 day', '1 s', 1000)",
            Actor("memcube_worker", pair.a, "room:gateway"),
            Actor("memcube_worker", pair.a),
            Actor("memcube_worker"),
        ),
        "graph_work": nothing(
            "select name from memcube.graph_work(0, -1)",
            Actor("memcube_worker", pair.a, "room:gateway"),
            Actor("memcube_worker", pair.a),
            Actor("memcube_worker"),
        ),
        "forget_objects": anything(
            "select memcube.forget_objects(array_agg(project_id), array_agg(key)) "
            f"from (values {', '.join(arrived)}) o (project_id, key)",
            Actor("memcube_worker", pair.a, "room:gateway"),
            ("0",),
        ),
        "announce_receipts": anything(
            "select memcube.announce_receipts('receipt.v1.stored', '{ada}', "
            f"({theirs})[1:1], ({theirs})[1:1], '{{x}}')",
            worker,
            truth,
        ),
        "hold_sources": anything(f"select memcube.hold_sources({theirs})", user, truth),
        "hold_lineage": anything(f"select memcube.hold_lineage({theirs})", user, truth),
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

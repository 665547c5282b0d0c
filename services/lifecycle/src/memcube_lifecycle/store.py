"""Housekeeping in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from memcube_common.db import Statements, Transaction

QUERIES = Statements(__package__)


async def maintain_partitions(tx: Transaction, *, keep_days: int) -> int:
    """Make the change feed's coming partitions, drop those older than `keep_days`; returns how many were made."""
    return int(await tx.fetch_value(QUERIES["maintain_partitions"], keep_days))


async def read_clock(tx: Transaction) -> datetime:
    """The database's own time."""
    moment: datetime = await tx.fetch_value(QUERIES["read_clock"])
    return moment


async def claim_objects(tx: Transaction, *, before: datetime, arriving: timedelta, limit: int) -> list[tuple[str, str]]:
    """Objects that must leave the store, as project and key: each once in a round that began at `before`.

    arriving: how long one may be on its way before nobody is taken to bring it any more.
    """
    rows = await tx.fetch(QUERIES["claim_objects"], before, arriving, limit)
    return [(row["project_id"], row["key"]) for row in rows]


async def forget_objects(tx: Transaction, *, gone: Sequence[tuple[str, str]]) -> int:
    """Forget objects (project and key) that are gone from the store; returns how many were known."""
    projects, keys = [project for project, _ in gone], [key for _, key in gone]
    return int(await tx.fetch_value(QUERIES["forget_objects"], projects, keys))


async def uncounted_projects(tx: Transaction, *, limit: int) -> list[str]:
    """The projects of the oldest `limit` changes of texts that are not counted."""
    return [row["project"] for row in await tx.fetch(QUERIES["uncounted_projects"], limit)]


async def fold_terms(tx: Transaction, *, limit: int) -> int:
    """Count at most `limit` changes of texts of the transaction's project; returns how many were."""
    return int(await tx.fetch_value(QUERIES["fold_terms"], limit))


@dataclass(frozen=True, slots=True)
class Graph:
    """A project's graph of the vectors of one generation: `stands` if searches ask it, `is_wanted` if they should.

    name: that of its index. building: the statement that builds the index.
    """

    project: str
    generation: int
    dimensions: int
    name: str
    building: str
    is_wanted: bool
    stands: bool


@dataclass(frozen=True, slots=True)
class GraphIndex:
    """An index that is a graph; not whole while it is built, and where its builder ended early."""

    name: str
    is_whole: bool
    dropping: str


async def read_graphs(tx: Transaction, *, most: int, least: int) -> list[Graph]:
    """The graphs that stand or should: wanted with more than `most` vectors, kept with more than `least`."""
    rows = await tx.fetch(QUERIES["graph_work"], most, least)
    return [
        Graph(r["project_id"], r["generation"], r["dimensions"], r["name"], r["building"], r["is_wanted"], r["stands"])
        for r in rows
    ]


async def read_graph_indexes(tx: Transaction) -> list[GraphIndex]:
    """The indexes that are graphs."""
    rows = await tx.fetch(QUERIES["list_graphs"])
    return [GraphIndex(row["name"], row["is_whole"], row["dropping"]) for row in rows]


async def note_graph(tx: Transaction, *, graph: Graph, seconds: float) -> None:
    """From now on searches ask this graph, which took `seconds` to build."""
    await tx.execute(QUERIES["note_graph"], graph.project, graph.generation, graph.dimensions, seconds)


async def forget_graph(tx: Transaction, *, graph: Graph) -> None:
    """From now on searches do not ask this graph."""
    await tx.execute(QUERIES["forget_graph"], graph.project, graph.generation)

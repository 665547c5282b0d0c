"""Graphs of vectors: a project that has grown large gets one of its own, and loses it when it has shrunk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Counter

from memcube_common.db import Database
from memcube_common.db.builder import Builder, building
from memcube_common.errors import TryAgain
from memcube_common.security.principal import Principal
from memcube_lifecycle import store
from memcube_lifecycle.store import Graph, GraphIndex

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GraphMeters:
    """What is counted about graphs."""

    built: Counter
    dropped: Counter

    @classmethod
    def fresh(cls, registry: CollectorRegistry) -> GraphMeters:
        """Meters that stand at zero, in `registry`."""
        return cls(
            Counter("memcube_vector_graphs_built", "Graphs of vectors that were built.", registry=registry),
            Counter("memcube_vector_graphs_dropped", "Graphs of vectors that were dropped.", registry=registry),
        )


@dataclass(frozen=True, slots=True)
class Graphs:
    """What tending graphs needs.

    dsn: where the builder signs in. threshold: with more vectors a project gets a graph; with half of them or fewer it
    loses it. memory_mb: what a graph is built in, MiB. workers: processes of Postgres that help building.
    """

    db: Database
    dsn: str
    meters: GraphMeters
    threshold: int
    memory_mb: int
    workers: int


@dataclass(frozen=True, slots=True)
class Chores:
    """What is to be done, in this order: graphs no longer asked, indexes dropped, graphs built, whole ones asked."""

    forget: tuple[Graph, ...]
    drop: tuple[GraphIndex, ...]
    build: tuple[Graph, ...]
    note: tuple[Graph, ...]


def chores(graphs: Sequence[Graph], indexes: Sequence[GraphIndex]) -> Chores:
    """What brings the indexes that are there to the graphs that are wanted.

    An index that is not whole was left behind by a builder that ended early: it is dropped and built anew.
    """
    whole = {index.name for index in indexes if index.is_whole}
    wanted = {graph.name for graph in graphs if graph.is_wanted}
    return Chores(
        forget=tuple(graph for graph in graphs if graph.stands and graph.name not in whole & wanted),
        drop=tuple(index for index in indexes if index.name not in whole & wanted),
        build=tuple(graph for graph in graphs if graph.is_wanted and graph.name not in whole),
        note=tuple(graph for graph in graphs if graph.is_wanted and not graph.stands and graph.name in whole),
    )


async def keep_tending(graphs: Graphs, *, every: float) -> None:
    """A round every `every` seconds, for ever; one that could not do all is made again sooner."""
    while True:
        try:
            await tend_graphs(graphs)
        except TryAgain as error:
            _log.warning("graphs_put_off", why=str(error))
            await asyncio.sleep(min(every, error.after))
            continue
        await asyncio.sleep(every)


async def tend_graphs(graphs: Graphs) -> int:
    """One round: builds and drops what it should; returns how many graphs were built.

    Writers go on meanwhile, and searches use what is whole. Of rooms that tend at once one does it. Raises TryAgain
    where Postgres is away or did not build a graph.
    """
    if await _look(graphs) == Chores((), (), (), ()):
        return 0
    async with building(graphs.dsn, memory_mb=graphs.memory_mb, workers=graphs.workers) as builder:
        if builder is None:
            return 0
        todo = await _look(graphs)  # again: another room may have done it until now
        for graph in todo.forget:
            async with graphs.db.transaction(_of(graph)) as tx:
                await store.forget_graph(tx, graph=graph)
        for index in todo.drop:
            await builder.run(index.dropping)
            graphs.meters.dropped.inc()
            _log.info("graph_dropped", index=index.name, was_whole=index.is_whole)
        for graph in todo.note:
            async with graphs.db.transaction(_of(graph)) as tx:
                await store.note_graph(tx, graph=graph, seconds=0.0)
        for graph in todo.build:
            await _build(graphs, builder, graph)
        return len(todo.build)


async def _build(graphs: Graphs, builder: Builder, graph: Graph) -> None:
    started = time.monotonic()
    await builder.run(graph.building)
    seconds = time.monotonic() - started
    async with graphs.db.transaction(_of(graph)) as tx:
        await store.note_graph(tx, graph=graph, seconds=seconds)
    graphs.meters.built.inc()
    _log.info("graph_built", index=graph.name, seconds=round(seconds, 1))


async def _look(graphs: Graphs) -> Chores:
    async with graphs.db.transaction(Principal.worker("lifecycle")) as tx:
        found = await store.read_graphs(tx, most=graphs.threshold, least=graphs.threshold // 2)
        return chores(found, await store.read_graph_indexes(tx))


def _of(graph: Graph) -> Principal:
    return Principal.worker("lifecycle", graph.project)

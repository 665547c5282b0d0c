"""The models this room works with: the one in force in the house, and a second while memories move to another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from memcube_common.db import Database, Transaction
from memcube_common.errors import MemCubeError, TryAgain
from memcube_common.memories import generations
from memcube_common.memories.generations import Migration, Model
from memcube_common.memories.store import register_model
from memcube_common.security.principal import Principal
from memcube_embedding.embedders.build import Identity, UnknownModel
from memcube_embedding.embedders.microbatch import MicroBatcher
from memcube_embedding.embedders.protocol import Embedder, EmbedderUnavailable, TextRefused

LOOK_SECONDS: Final = 0.5
"""How often a room looks which generation is in force."""
BELIEVED_SECONDS: Final = 8.0
"""How long what was seen there is believed. Vectors of a generation are removed 20 s after it was in force at the
soonest: by then no room takes it for the one in force, and no search of it is under way."""
_PROBE: Final = "memory"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """One generation and what makes its vectors. `turn`: who may fill the embedder."""

    generation: int
    embedder: Embedder
    questions: MicroBatcher
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Models:
    """Opens and closes embedders as the house needs them: one, or two while a migration is open, never more.

    identify: what a target is called by, before it is opened. build: the embedder of a model, which may take seconds.
    `clock` is in seconds.
    """

    def __init__(
        self,
        db: Database,
        *,
        configured: Identity,
        identify: Callable[[str], Identity],
        build: Callable[[Identity], Awaitable[Embedder]],
        batcher: Callable[[Embedder], MicroBatcher],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._configured = configured
        self._identify = identify
        self._build = build
        self._batcher = batcher
        self._clock = clock
        self._served: dict[int, Served] = {}
        self._current: Model | None = None
        self._migration: Migration | None = None
        self._seen = float("-inf")
        self._trouble = "the model in force is not open yet"
        self._looking = asyncio.Lock()

    @property
    def current(self) -> Served:
        """What questions and new memories are embedded by now. Raises EmbedderUnavailable where that cannot be said."""
        if self._clock() - self._seen > BELIEVED_SECONDS:
            raise EmbedderUnavailable("which model is in force is not known: Postgres does not answer", after=1.0)
        served = self._served.get(self._current.generation) if self._current is not None else None
        if served is None:
            raise EmbedderUnavailable(self._trouble, after=1.0)
        return served

    @property
    def migration(self) -> Migration | None:
        """The latest migration that was seen, ended or not."""
        return self._migration

    @property
    def both(self) -> tuple[Served, ...]:
        """What memories get vectors of while a migration is open, as far as it could be opened; else nothing."""
        return tuple(self._served.values()) if self._migration is not None and self._migration.is_open else ()

    def served(self, generation: int) -> Served | None:
        """What makes vectors of a generation, if it is open."""
        return self._served.get(generation)

    async def begin(self) -> None:
        """Open the model in force: what the settings name where none is, or none that ever gave a vector.

        Where the settings name another, memories are not embedded anew behind anybody's back: the model in force stays,
        and a line of the log says what to do. Raises TryAgain where Postgres is away, and ModelNotPrepared.
        """
        async with self._db.transaction(_worker()) as tx:
            current, migration = await generations.current_model(tx), await generations.latest_migration(tx)
            named = self._configured
            if current is None or not (current.used or (migration is not None and migration.is_open)):
                generation = await _register(tx, named)
                await generations.adopt(tx, generation=generation)
                current = await generations.current_model(tx)
        if current is not None and current.fingerprint != named.fingerprint:
            _log.warning(
                "another_model_is_in_force",
                in_force=current.name,
                in_settings=named.name,
                remedy=f"run 'memcube embeddings migrate --to {named.target}', or put the settings back",
            )
        await self.look()
        if self._current is not None:
            await self._open(self._current.generation)

    async def look(self) -> None:
        """See which generation is in force and whether a migration is open; close what is needed no more."""
        async with self._looking:
            asked = self._clock()
            async with self._db.transaction(_worker()) as tx:
                current, migration = await generations.current_model(tx), await generations.latest_migration(tx)
            self._current, self._migration, self._seen = current, migration, asked
            needed = self._needed()
            for generation in [one for one in self._served if one not in needed]:
                await _close(self._served.pop(generation))

    async def keep_looking(self) -> None:
        """Look for ever; while Postgres is away, what was seen last is believed for a while."""
        while True:
            try:
                await self.look()
            except TryAgain as error:
                await asyncio.sleep(error.after)
            await asyncio.sleep(LOOK_SECONDS)

    async def open_missing(self) -> None:
        """Open what is needed and not open; what cannot be opened is tried again at the next call, and said why."""
        migration = self._migration
        if migration is not None and migration.is_open and migration.to_generation is None:
            await self._take_up(migration)
        for generation in sorted(self._needed() - set(self._served)):
            try:
                await self._open(generation)
            except (RuntimeError, OSError) as error:
                await self.complain(str(error))

    async def complain(self, problem: str | None) -> None:
        """Tell the operator what is in the open migration's way; None for nothing any more."""
        if self._migration is None or not self._migration.is_open or self._migration.problem == problem:
            return
        async with self._db.transaction(_worker()) as tx:
            await generations.complain(tx, migration=self._migration.id, problem=problem)

    async def aclose(self) -> None:
        """Close what is open."""
        while self._served:
            await _close(self._served.popitem()[1])

    async def _open(self, generation: int) -> None:
        async with self._db.transaction(_worker()) as tx:
            model = await generations.model_of(tx, generation=generation)
        try:
            embedder = await self._build(Identity.of(model))
        except (UnknownModel, EmbedderUnavailable) as error:
            if self._current is not None and self._current.generation == generation:
                self._trouble = error.detail
            _log.error("model_not_opened", model=model.name, generation=generation, why=error.detail)
            await self.complain(error.detail)
            return
        self._served[generation] = Served(generation, embedder, self._batcher(embedder))
        _log.info("model_opened", model=model.name, generation=generation)

    def _needed(self) -> set[int]:
        needed = set[int]() if self._current is None else {self._current.generation}
        if self._migration is not None and self._migration.is_open:
            needed |= {one for one in (self._migration.from_generation, self._migration.to_generation) if one}
        return needed

    async def _take_up(self, migration: Migration) -> None:
        """Open a migration's target and ask it for one vector: only what answers as it should gets memories."""
        embedder: Embedder | None = None
        try:
            named = self._identify(migration.target)
            if self._current is not None and named.fingerprint == self._current.fingerprint:
                raise UnknownModel(f"{named.name} is the model in force already")
            embedder = await self._build(named)
            await embedder.embed([_PROBE])
        except UnknownModel as error:
            async with self._db.transaction(_worker()) as tx:
                await generations.refuse(tx, migration=migration.id, problem=error.detail)
        except (EmbedderUnavailable, TextRefused, RuntimeError, OSError) as error:
            await self.complain(f"the target does not answer as it should: {error}")
        else:
            async with self._db.transaction(_worker()) as tx:
                generation = await _register(tx, named)
                await generations.take_up(tx, migration=migration.id, generation=generation)
            self._served[generation] = Served(generation, embedder, self._batcher(embedder))
            embedder = None
        finally:
            if embedder is not None:
                await embedder.aclose()
        await self.look()


async def _register(tx: Transaction, named: Identity) -> int:
    return await register_model(tx, name=named.name, dimensions=named.dimensions, fingerprint=named.fingerprint)


async def _close(served: Served) -> None:
    try:
        await served.questions.aclose()
        await served.embedder.aclose()
    except MemCubeError as error:
        _log.warning("model_not_closed", generation=served.generation, error=type(error).__name__)


def _worker() -> Principal:
    return Principal.worker("embedding")

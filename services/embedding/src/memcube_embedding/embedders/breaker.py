"""A circuit breaker before any embedder: after a run of failures the model is left alone but for a rare probe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from memcube_embedding.embedders.protocol import (
    CircuitOpen,
    Embedder,
    EmbedderUnavailable,
    EmbeddingModel,
    TextRefused,
    Vector,
)


class Circuit(StrEnum):
    """Whether calls reach the model."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class BreakingEmbedder:
    """Passes calls on while the model answers; after `failures` in a row fails them at once, and probes rarely.

    One call at a time, at most every `probe_interval` seconds, is let through as a probe while the circuit is open;
    its success closes the circuit. When the model itself asked to be left alone for longer, the next probe waits that
    long, but at most `longest_rest` seconds. `clock` counts seconds and never goes back; `on_change` hears of every
    change of the circuit.
    """

    def __init__(
        self,
        inner: Embedder,
        *,
        failures: int = 5,
        probe_interval: float = 5.0,
        longest_rest: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[Circuit], None] | None = None,
    ) -> None:
        self._inner = inner
        self._failures_allowed = failures
        self._probe_interval = probe_interval
        self._longest_rest = max(longest_rest, probe_interval)
        self._clock = clock
        self._failures = 0
        self._probe_at = 0.0
        self._probing = False
        self._on_change = on_change
        self._told = Circuit.CLOSED

    @property
    def model(self) -> EmbeddingModel:
        """The model behind the breaker."""
        return self._inner.model

    @property
    def circuit(self) -> Circuit:
        """Whether calls reach the model now."""
        if self._failures < self._failures_allowed:
            return Circuit.CLOSED
        return Circuit.PROBING if self._probing else Circuit.OPEN

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """As the embedder behind; raises `CircuitOpen` at once while the circuit is open."""
        match self.circuit:
            case Circuit.CLOSED:
                return await self._ask(texts)
            case Circuit.PROBING:
                raise CircuitOpen(after=self._probe_interval)
            case Circuit.OPEN:
                remaining = self._probe_at - self._clock()
                if remaining > 0:
                    raise CircuitOpen(after=remaining)
                return await self._probe(texts)

    async def aclose(self) -> None:
        """Close the embedder behind."""
        await self._inner.aclose()

    async def _probe(self, texts: Sequence[str]) -> list[Vector]:
        self._probing = True
        self._rest(self._probe_interval)  # also when this probe is cancelled, the next one keeps its distance
        self._tell()
        try:
            return await self._ask(texts)
        finally:
            self._probing = False
            self._tell()

    async def _ask(self, texts: Sequence[str]) -> list[Vector]:
        try:
            vectors = await self._inner.embed(texts)
        except TextRefused:
            self._succeeded()  # the model is well: it has an opinion about a text
            raise
        except EmbedderUnavailable as unavailable:
            self._failed(unavailable.after)
            raise
        except Exception:
            self._failed(self._probe_interval)
            raise
        self._succeeded()
        return vectors

    def _succeeded(self) -> None:
        self._failures = 0
        self._tell()

    def _failed(self, after: float) -> None:
        self._failures += 1
        if self._failures >= self._failures_allowed:
            self._rest(min(max(after, self._probe_interval), self._longest_rest))
        self._tell()

    def _tell(self) -> None:
        if self._on_change is not None and self.circuit is not self._told:
            self._told = self.circuit
            self._on_change(self._told)

    def _rest(self, seconds: float) -> None:
        self._probe_at = self._clock() + seconds

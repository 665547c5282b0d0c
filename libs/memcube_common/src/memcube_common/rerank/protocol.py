"""What any reranker promises, and what its failure means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class RerankerUnavailable(Exception):
    """It did not score usably: go on without, ask again after `after` seconds. `detail` never says what was sent."""

    def __init__(self, detail: str, *, after: float = 0.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.after = after


class Reranker(Protocol):
    """A reranker. What governance marks `confidential` must never be handed to one: that is its caller's part."""

    @property
    def name(self) -> str:
        """The model, as it is asked for."""
        ...

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text fits the question, in their order: higher is better, comparable inside one answer only.

        Raises RerankerUnavailable.
        """
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...

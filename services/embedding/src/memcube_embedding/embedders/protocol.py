"""What every embedder promises: one unit vector per text, or an error that says what should happen next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memcube_common.errors import TryAgain, Unprocessable

Vector: TypeAlias = NDArray[np.float32]
"""One text's vector: float32, shape (dimensions,), unit length."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Which model made a vector; vectors of two fingerprints must never be compared."""

    name: str
    """The name stored beside every vector, e.g. 'all-MiniLM-L6-v2'."""
    dimensions: int
    """Numbers in one vector."""
    max_batch: int
    """Most texts worth giving to one `embed` call; longer calls work, and are split."""
    fingerprint: str
    """Changes whenever the same text would get another vector."""


class EmbedderUnavailable(TryAgain):
    """The embedding model does not answer; the same texts will be embedded later."""

    code = "embedder_unavailable"


class CircuitOpen(EmbedderUnavailable):
    """The embedding model failed several times in a row and is left alone for a while."""


Outcome: TypeAlias = "Vector | TextRefused"
"""What became of one text: its vector, or why it will never have one."""


class TextRefused(Unprocessable):
    """A text can never be embedded as it stands; its neighbours can.

    `index` is the text's place in the call, `reason` says why without quoting it. `others` holds, by index, what the
    same call already found out about the other texts, so that nobody has to ask for them again.
    """

    code = "text_refused"

    def __init__(self, index: int, reason: str, *, others: Mapping[int, Outcome] | None = None) -> None:
        self.index = index
        self.reason = reason
        self.others: Mapping[int, Outcome] = others or {}
        super().__init__(f"text {index} cannot be embedded: {reason}")


class Embedder(Protocol):
    """Makes vectors. Safe to call from many tasks of one event loop at once."""

    @property
    def model(self) -> EmbeddingModel:
        """The model every vector of this embedder comes from."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One unit vector per text, in the order of `texts`.

        Raises `TextRefused` for the first text that can never be embedded and `EmbedderUnavailable` when the model
        cannot be asked now. Neither ever quotes a text.
        """
        ...

    async def aclose(self) -> None:
        """Let go of threads and connections; later calls raise `EmbedderUnavailable`."""
        ...


async def embed_each(embedder: Embedder, texts: Sequence[str]) -> list[Outcome]:
    """What became of each text, in order: a refused text does not cost its neighbours their vectors.

    Raises `EmbedderUnavailable` when the model cannot be asked now.
    """
    known: dict[int, Outcome] = {}
    while missing := [place for place in range(len(texts)) if place not in known]:
        try:
            vectors = await embedder.embed([texts[place] for place in missing])
        except TextRefused as refused:
            known[missing[refused.index]] = TextRefused(missing[refused.index], refused.reason)
            for index, outcome in refused.others.items():
                place = missing[index]
                known[place] = TextRefused(place, outcome.reason) if isinstance(outcome, TextRefused) else outcome
        else:
            known.update(zip(missing, vectors, strict=True))
    return [known[place] for place in range(len(texts))]


def vectors_or_refusal(outcomes: Sequence[Outcome]) -> list[Vector]:
    """The vectors of a whole call; raises its first `TextRefused`, which then carries all the other outcomes."""
    refusals = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, TextRefused)]
    if refusals:
        first = refusals[0]
        refusal = outcomes[first]
        assert isinstance(refusal, TextRefused)
        others = {index: outcome for index, outcome in enumerate(outcomes) if index != first}
        raise TextRefused(first, refusal.reason, others=others)
    return [outcome for outcome in outcomes if not isinstance(outcome, TextRefused)]

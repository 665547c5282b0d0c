"""One text, screened: what is in it, and the text as it may be stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memcube_common.contracts.fields import Screening
from memcube_common.screening.kinds import RANK
from memcube_common.screening.people import Proofs, find_people
from memcube_common.screening.secrets import Span, find_secrets

ROUNDS_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class Screened:
    """A text as it may be stored, and the kinds that were found in it, sorted; `kinds.KINDS` says what each means."""

    text: str
    kinds: tuple[str, ...] = ()


def screen(text: str, how: Screening, proofs: Proofs | None = None) -> Screened:
    """Find personal data and secrets in `text`, in time linear in its length.

    how: `off` looks at nothing, `tag` leaves the text as it is, `redact` puts `[redacted:<kind>]` in place of each
    finding; screening what came out finds nothing any more. proofs: of the body that the text is of, where it is one of
    several.
    """
    if how == "off":
        return Screened(text)
    proofs = proofs or Proofs()
    redacted, kinds = text, set[str]()
    for _ in range(ROUNDS_MOST):
        spans = find(redacted, proofs)
        if not spans:
            break
        kinds.update(kind for _, _, kind in spans)
        redacted = _without(redacted, spans)
    return Screened(redacted if how == "redact" else text, tuple(sorted(kinds)))


def find(text: str, proofs: Proofs) -> list[Span]:
    """What is in `text`, in order, none over another: of two that overlap the kind that ranks first stays."""
    found = sorted({*find_secrets(text), *find_people(text, proofs)}, key=lambda one: (RANK[one[2]], one[0], -one[1]))
    taken = bytearray(len(text)) if len(found) > 1 else bytearray()
    kept: list[Span] = []
    for start, end, kind in found:
        if taken:
            if any(taken[start:end]):
                continue
            taken[start:end] = b"\1" * (end - start)
        kept.append((start, end, kind))
    return sorted(kept)


def _without(text: str, spans: list[Span]) -> str:
    pieces: list[str] = []
    last = 0
    for start, end, kind in spans:
        pieces += (text[last:start], f"[redacted:{kind}]")
        last = end
    return "".join((*pieces, text[last:]))

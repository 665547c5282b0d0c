"""What was found, put into the order of the house's reranker: what may be sent is, everything else keeps its place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from memcube_common.rerank.protocol import Reranker, RerankerUnavailable

if TYPE_CHECKING:
    from memcube_common.search.store import Found
    from memcube_gateway.patience import Patience

DEPTH: Final = 30
"""So many are read for the reranker at least, however few are asked for: what it would prefer may stand behind them."""
TEXT_MAX: Final = 8_000
"""The characters of a text it is sent: models of this kind read no more, and an answer of 200 stays small to send."""


async def rerank(
    found: Sequence[Found], *, text: str, reranker: Reranker, patience: Patience
) -> tuple[list[Found], str | None]:
    """Texts that are not confidential in the order of their new scores, in the places they hold together.

    The score is added to the parts as `rerank`. Where there is none in time, the order is as it was, and why is said.
    """
    places = [place for place, one in enumerate(found) if _may_be_sent(one)]
    texts = [found[place].fields["content"][:TEXT_MAX] for place in places]
    try:
        async with patience.spent(), asyncio.timeout(max(0.0, patience.left)):
            scores = await reranker.scores(text, texts)
    except RerankerUnavailable as error:
        return list(found), f"not reranked: {error.detail}"
    except TimeoutError:
        return list(found), "not reranked: no time was left for it"
    scored = [
        replace(found[place], parts={**(found[place].parts or {}), "rerank": score})
        for score, place in sorted(zip(scores, places, strict=True), key=lambda one: (-one[0], one[1]))
    ]
    answer = list(found)
    for place, one in zip(places, scored, strict=True):
        answer[place] = one
    return answer, None


def _may_be_sent(one: Found) -> bool:
    return one.fields["type"] == "PLAINTEXT" and one.fields["governance"].sensitivity != "confidential"

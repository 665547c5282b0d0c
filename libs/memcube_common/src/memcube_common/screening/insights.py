"""Insights that come by no body over HTTP, screened: those off the bus, and those a language model found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from memcube_common.contracts.fields import Governance, Screening
from memcube_common.errors import Invalid
from memcube_common.insights.domain import Insight
from memcube_common.language.protocol import Extracted
from memcube_common.screening.threads import ScreeningThreads
from memcube_common.screening.writing import INLINE_MOST, LISTS, NAMES, Screener, marked

KIND_MOST: Final = 32


def screen_insight(insight: Insight, how: Screening) -> Insight:
    """An insight as it may be stored, marked in its governance with what was found. Raises Invalid."""
    screener = Screener(how)
    screened = replace(
        insight,
        insight=screener.content(insight.insight, "insight"),
        label=None if insight.label is None else screener.text(insight.label, longest=NAMES["label"]),
        tags=tuple(screener.texts(insight.tags, longest=LISTS["tags"])),
        evidence_refs=tuple(screener.texts(insight.evidence_refs, longest=LISTS["evidence_refs"])),
        metadata=orjson.dumps(screener.metadata(orjson.loads(insight.metadata))).decode(),
    )
    if not screener.kinds:
        return insight
    governance = marked(Governance.model_validate_json(insight.governance), screener.kinds)
    assert governance is not None
    return replace(screened, governance=governance.model_dump_json())


def is_long(insights: Sequence[Insight]) -> bool:
    """Whether looking through these takes a thread."""
    return (
        sum(len(one.insight) + len(one.metadata) + sum(map(len, one.evidence_refs)) for one in insights) > INLINE_MOST
    )


def screen_extracted(found: Extracted, how: Screening) -> Extracted | None:
    """What a language model found, as it may be stored, with the kinds in it; None where it is too long then."""
    screener = Screener(how)
    try:
        text = screener.content(found.text, "insight")
    except Invalid:
        return None
    return replace(
        found,
        text=text,
        label=None if found.label is None else screener.text(found.label, longest=NAMES["label"]),
        tags=tuple(screener.texts(found.tags, longest=LISTS["tags"])),
        kind=screener.text(found.kind, longest=KIND_MOST),
        pii_kinds=tuple(sorted(screener.kinds)),
    )


async def screen_extracted_soon(
    found: Sequence[Extracted],
    how: Screening,
    threads: ScreeningThreads,
    *,
    within: float | None = None,
    cost_most: float = math.inf,
) -> list[Extracted]:
    """`screen_extracted` of each, in a thread, without those that are too long then. Raises as `threads.each` does."""
    if how == "off":
        return list(found)
    pieces = [partial(screen_extracted, one, how) for one in found]
    screened = await threads.each(pieces, within=within, cost_most=cost_most)
    return [one for one in screened if one is not None]

"""Insights that come by no body over HTTP, screened: those off the bus, and those a language model found."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import orjson

from memcube_common.contracts.fields import Governance, Screening
from memcube_common.insights.domain import Insight
from memcube_common.language.protocol import Extracted
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


async def screen_insights_soon(insights: Sequence[Insight], how: Screening) -> list[Insight]:
    """`screen_insight` of each, one by one in a thread where they are long together. Raises Invalid.

    In a thread of the event loop's own: ingestion, the one room that calls this, does nothing else in them.
    """
    if how == "off":
        return list(insights)
    size = sum(len(one.insight) + len(one.metadata) for one in insights)
    if size <= INLINE_MOST:
        return [screen_insight(one, how) for one in insights]
    return [await asyncio.to_thread(screen_insight, one, how) for one in insights]


def screen_extracted(found: Extracted, how: Screening) -> Extracted:
    """What a language model found, as it may be stored, with the kinds that are in it. Raises Invalid."""
    screener = Screener(how)
    return replace(
        found,
        text=screener.content(found.text, "insight"),
        label=None if found.label is None else screener.text(found.label, longest=NAMES["label"]),
        tags=tuple(screener.texts(found.tags, longest=LISTS["tags"])),
        kind=screener.text(found.kind, longest=KIND_MOST),
        pii_kinds=tuple(sorted(screener.kinds)),
    )


async def screen_extracted_soon(found: Sequence[Extracted], how: Screening) -> list[Extracted]:
    """`screen_extracted` of each, one by one in a thread, as `screen_insights_soon` does. Raises Invalid."""
    if how == "off":
        return list(found)
    return [await asyncio.to_thread(screen_extracted, one, how) for one in found]

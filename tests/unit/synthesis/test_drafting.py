"""Which way a text is made out of several: what the model is given, and what happens without it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest

from memcube_common.errors import Invalid, TryAgain, Unprocessable
from memcube_common.language.protocol import Extracted, LanguageRefused, LanguageUnavailable, Said
from memcube_common.synthesis.domain import SENTENCES
from memcube_common.synthesis.drafting import MODEL_READS_BYTES, Draft, Source, draft
from memcube_common.tokens import count_tokens


@dataclass
class Scripted:
    """A language model that answers what it is told to."""

    answer: str | Exception = "Made by the model."
    asked: list[tuple[Sequence[str], str]] = field(default_factory=list[tuple[Sequence[str], str]])
    name: str = "scripted"

    async def extract(self, messages: Sequence[Said]) -> list[Extracted]:
        return []

    async def summarise(self, texts: Sequence[str], instructions: str) -> str:
        self.asked.append((texts, instructions))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def aclose(self) -> None:
        return None


ONE, OTHER = Source("One fact."), Source("Another fact.")
BOTH = "One fact.\nAnother fact."


def made(
    *sources: Source, model: Scripted | None = None, method: Literal["auto", "extractive", "llm"] = "auto"
) -> Draft:
    return asyncio.run(draft(sources, method=method, instructions=None, max_tokens=50, language=model))


def test_the_model_is_asked_where_it_is_there() -> None:
    model = Scripted()
    assert made(ONE, OTHER, model=model) == Draft("Made by the model.", "llm", "scripted")
    ((texts, instructions),) = model.asked
    assert texts == ["One fact.", "Another fact."]
    assert "50 tokens" in instructions
    assert made(ONE, OTHER, model=model, method="extractive") == Draft(BOTH, "extractive")
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("model", "sources", "why", "error"),
    [
        (None, (ONE, OTHER), "no language model", Invalid),
        (Scripted(), (ONE, Source("Another fact.", confidential=True)), "a source is confidential", Invalid),
        (Scripted(LanguageUnavailable("x", after=7)), (ONE, OTHER), "the language model did not answer", TryAgain),
        (Scripted(LanguageRefused("x")), (ONE, OTHER), "it refused", Unprocessable),
    ],
)
def test_without_it_their_own_sentences_or_an_error(
    model: Scripted | None, sources: tuple[Source, Source], why: str, error: type[Exception]
) -> None:
    assert made(*sources, model=model) == Draft(BOTH, "extractive", why=why)  # pyright: ignore[reportArgumentType]
    with pytest.raises(error):
        made(*sources, model=model, method="llm")
    if why == "a source is confidential":
        assert model is not None
        assert model.asked == []


def test_what_is_too_long_for_the_model_is_given_by_its_own_sentences() -> None:
    model = Scripted()
    long = Source(" ".join(f"Service {n} was slow on day {n % 31}." for n in range(2_200)))
    made(long, long, ONE, model=model)
    ((texts, _),) = model.asked
    assert sum(len(text.encode()) for text in texts) <= MODEL_READS_BYTES
    assert texts[2] == "One fact."
    assert count_tokens(texts[0]) <= 20_000 // 3


def test_what_has_nothing_to_show_is_refused() -> None:
    with pytest.raises(Unprocessable):
        made(Source("\u200b"), Source("\n"))


def test_what_the_model_says_too_much_ends_with_a_sentence() -> None:
    assert made(ONE, OTHER, model=Scripted("Said again and again. " * 30)).text.endswith("again.")
    assert made(ONE, OTHER, model=Scripted("word " * 200)).text.endswith("word")


def test_long_sources_share_the_work_of_their_own_summaries() -> None:
    early = " ".join(f"W{n}." for n in range(SENTENCES // 2))
    late = " ".join(f"The deploy of the checkout in region {n} failed." for n in range(700))
    model = Scripted()
    made(Source(f"{early} {late}"), Source(f"{early} {late}"), model=model)
    ((texts, _),) = model.asked
    assert all(texts)
    assert not any("deploy" in text for text in texts)

"""One text out of several: by the language model where it is there and may see them, else by their own sentences."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from memcube_common.contracts.links import Method
from memcube_common.errors import FieldError, Invalid, TryAgain, Unprocessable
from memcube_common.language.protocol import LanguageModel, LanguageRefused, LanguageUnavailable
from memcube_common.synthesis.domain import shortened, summary

MODEL_READS_BYTES: Final = 96 * 1024
"""Most UTF-8 bytes of sources that the model is given as they are; longer ones are given as their own summaries."""

MODEL_READS_TOKENS: Final = 20_000
PLAINLY: Final = "One plain text with everything that matters."

Why = Literal["no language model", "a source is confidential", "the language model did not answer", "it refused"]


@dataclass(frozen=True, slots=True)
class Source:
    """A text to be put together with others. confidential: it never leaves the house."""

    text: str
    confidential: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """One text, how it was made and by which model. why: what kept the model out, where it was wanted."""

    text: str
    method: Method
    model: str | None = None
    why: Why | None = None


async def draft(
    sources: Sequence[Source],
    *,
    method: Literal["auto", "extractive", "llm"],
    instructions: str | None,
    max_tokens: int,
    language: LanguageModel | None,
) -> Draft:
    """One text of at most `max_tokens` o200k tokens out of `sources`, in their order.

    `auto` asks the model and does without it where it may not be asked, is not there or does not answer; `llm` raises
    Invalid, TryAgain or Unprocessable then. Raises Unprocessable where the sources have nothing that can be shown.
    """
    if method == "extractive":
        return await _extracted(sources, max_tokens, None)
    if language is None:
        if method == "llm":
            raise Invalid(errors=[FieldError("method", "there is no language model here: 'extractive' or 'auto'")])
        return await _extracted(sources, max_tokens, "no language model")
    secret = [place for place, source in enumerate(sources) if source.confidential]
    if secret:
        if method == "llm":
            said = "is confidential, and never sent to a language model"
            raise Invalid(errors=[FieldError(f"memory_ids.{place}", said) for place in secret])
        return await _extracted(sources, max_tokens, "a source is confidential")
    asked = f"{instructions or PLAINLY}\nAt most {max_tokens} tokens."
    try:
        text = await language.summarise(await _readable(sources), asked)
    except LanguageUnavailable as error:
        if method == "llm":
            raise TryAgain("The language model does not answer.", after=max(1.0, error.after)) from error
        return await _extracted(sources, max_tokens, "the language model did not answer")
    except LanguageRefused as error:
        if method == "llm":
            raise Unprocessable("The language model refuses to put these together.") from error
        return await _extracted(sources, max_tokens, "it refused")
    return Draft(shortened(text, max_tokens), "llm", language.name)


async def _readable(sources: Sequence[Source]) -> list[str]:
    texts = [source.text for source in sources]
    if sum(len(text.encode()) for text in texts) <= MODEL_READS_BYTES:
        return texts
    share = MODEL_READS_TOKENS // len(texts)
    return [await asyncio.to_thread(summary, [text], share, among=len(texts)) for text in texts]


async def _extracted(sources: Sequence[Source], max_tokens: int, why: Why | None) -> Draft:
    # In a thread: large sources take a second, in which others are served.
    text = await asyncio.to_thread(summary, [source.text for source in sources], max_tokens)
    if not text:
        raise Unprocessable("These memories have nothing in them that can be shown.")
    return Draft(text, "extractive", why=why)

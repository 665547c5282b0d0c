"""Cuts a text to the tokens a remote model reads, counted offline with OpenAI's own vocabulary."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import Final

from memcube_common.tokens import Tokenizer, tokenizer

VOCABULARY: Final = "cl100k_base"
"""The vocabulary of OpenAI's text-embedding-3 models."""

_MOST_BYTES_READ_PER_TOKEN = 64
_LONGEST_CHARACTER = 4


class Truncation:
    """Cuts texts to at most `limit` tokens. The vocabulary (30 MB) is loaded by the first text that needs counting."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def cut(self, text: str) -> str:
        """`text`, or its longest beginning of at most `limit` tokens; counts in a worker thread."""
        if len(text) * _LONGEST_CHARACTER <= self._limit or len(text.encode()) <= self._limit:
            return text  # a token is never shorter than a byte
        return await asyncio.to_thread(self._cut, text)

    def count(self, text: str) -> int:
        """The tokens of `text` as OpenAI's embedding models count them."""
        return len(self._tokenizer.encode(text))

    def _cut(self, text: str) -> str:
        read = text[: self._limit * _MOST_BYTES_READ_PER_TOKEN]
        tokens = self._tokenizer.encode(read)
        if len(tokens) <= self._limit and read == text:
            return text
        tokens = tokens[: self._limit]
        while True:
            beginning = self._decode(tokens)
            if self.count(beginning) <= self._limit:
                return beginning
            tokens = tokens[:-1]  # cut elsewhere, the same characters may take one token more

    def _decode(self, tokens: list[int]) -> str:
        """The text of `tokens`, without a character whose last bytes were cut off."""
        for end in range(len(tokens), max(len(tokens) - _LONGEST_CHARACTER, 0), -1):
            try:
                return self._tokenizer.decode(tokens[:end])
            except ValueError:  # the last token ends inside a character
                continue
        return ""

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return tokenizer(VOCABULARY)

"""Tokens, counted offline with OpenAI's own vocabularies."""

from __future__ import annotations

from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Literal, Protocol, cast


class Tokenizer(Protocol):
    """One vocabulary: text to tokens and back. Special tokens in a text are read as plain text."""

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`."""
        ...

    def decode(self, tokens: list[int]) -> str:
        """The text of `tokens`; raises ValueError where they end inside a character."""
        ...

    def count(self, text: str) -> int:
        """How many tokens `text` has."""
        ...


class _Bindings(Protocol):
    def tokenizer_for_encoding(self, encoding_name: str) -> Tokenizer: ...


@cache
def tokenizer(vocabulary: Literal["o200k_base", "cl100k_base"]) -> Tokenizer:
    """The tokenizer of `vocabulary`, loaded at its first use (about 30 MB).

    Taken from the Rust half of bpe-openai alone: its Python half costs another 65 MB and half a second.
    """
    package = find_spec("bpe_openai")
    assert package is not None
    spec = PathFinder.find_spec("bpe_openai._bindings", package.submodule_search_locations)
    assert spec is not None
    assert spec.loader is not None
    bindings = module_from_spec(spec)
    spec.loader.exec_module(bindings)
    return cast("_Bindings", bindings).tokenizer_for_encoding(vocabulary)


def count_tokens(text: str) -> int:
    """How many o200k tokens `text` costs in a prompt."""
    return tokenizer("o200k_base").count(text)

"""Synthesis: several memories put into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from memcube.models import Memory
from memcube.transport import Transport

MODEL_SECONDS = 60.0


class Synthesis:
    """What `client.memories.synthesize` does."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def synthesize(
        self,
        memories: Sequence[UUID | str],
        *,
        method: Literal["auto", "extractive", "llm"] = "auto",
        instructions: str | None = None,
        max_tokens: int | None = None,
        label: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        governance: Mapping[str, Any] | None = None,
    ) -> Memory:
        """A new memory out of 2 to 50 memories of text, in their order; governed at least as strictly as each of them.

        method: `extractive` takes whole sentences of the sources; `llm` asks the server's language model; `auto` asks
        it if there is one and does without it where it does not answer. `metadata["synthesis"]` says how it was made.
        instructions: what matters, for the model. max_tokens: o200k tokens at most, 50-8,000, 400 if not given.
        Raises Invalid with the places of sources that you may not read, Conflict where they change meanwhile,
        Unavailable where `llm` was asked for and does not answer.
        """
        given = {
            "instructions": instructions,
            "max_tokens": max_tokens,
            "label": label,
            "tags": None if tags is None else list(tags),
            "metadata": metadata,
            "governance": governance,
        }
        body: dict[str, Any] = {"memory_ids": [str(one) for one in memories], "method": method}
        body |= {name: value for name, value in given.items() if value is not None}
        return await self._transport.ask(
            Memory,
            "POST",
            "memories/synthesize",
            body=body,
            extra_seconds=0.0 if method == "extractive" else MODEL_SECONDS,
        )

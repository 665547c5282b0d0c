"""Chains: memories in an order of their own, read within a token budget."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from uuid import UUID

from memcube.linked import Chain, ChainReading, ChainsAnswer, OrderedChain
from memcube.transport import Method, Transport


class Chains:
    """`client.chains`. Positions count the memories you may read, from 1.

    `version` of a change is the chain's version it is meant for; VersionMismatch where it has another by then.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def make(
        self,
        name: str,
        memories: Sequence[UUID | str] = (),
        *,
        description: str | None = None,
        governance: Mapping[str, Any] | None = None,
    ) -> OrderedChain:
        """A chain of at most 1,000 memories, each once. governance: `visibility` (project or private), `write_roles`.

        Raises NotFound where you may not read one of them, Invalid.
        """
        given = {"description": description, "governance": governance}
        body = {"name": name, "memory_ids": [str(one) for one in memories]}
        body |= {field: value for field, value in given.items() if value is not None}
        return await self._transport.ask(OrderedChain, "POST", "chains", body=body)

    async def all(self) -> AsyncGenerator[Chain]:
        """The chains that you may see, newest first."""
        params: dict[str, str] = {}
        while True:
            page = await self._transport.ask(ChainsAnswer, "GET", "chains", params=params)
            for one in page.chains:
                yield one
            if page.next_cursor is None:
                return
            params = {"cursor": page.next_cursor}

    async def read(
        self,
        chain: UUID | str,
        *,
        token_budget: int | None = None,
        start: int | None = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> ChainReading:
        """Its memories in order, from `start`, as far as the budget and the limit reach; nothing is skipped.

        token_budget: o200k tokens that the contents may cost together. limit: 1-200, 100 if not given. fields: names
        of a memory's fields, e.g. ["label", "content"]; all if not given. `left_out` says how many follow,
        `next_position` where to read on. Raises NotFound.
        """
        given = {"token_budget": token_budget, "start": start, "limit": limit}
        params = {name: str(value) for name, value in given.items() if value is not None}
        if fields is not None:
            params["fields"] = ",".join(fields)
        return await self._transport.ask(ChainReading, "GET", _of(chain), params=params)

    async def change(
        self,
        chain: UUID | str,
        *,
        name: str | None = None,
        description: str | None = None,
        governance: Mapping[str, Any] | None = None,
        version: int | None = None,
    ) -> OrderedChain:
        """Another name, description ("" takes it away) or governance. Raises NotFound, NotAllowed, VersionMismatch."""
        given = {"name": name, "description": description, "governance": governance}
        body: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
        if description == "":
            body["description"] = None
        return await self._ask("PATCH", _of(chain), body, version)

    async def delete(self, chain: UUID | str) -> None:
        """End a chain; its memories stay. Raises NotFound, NotAllowed."""
        await self._transport.request("DELETE", _of(chain), None)

    async def add(
        self,
        chain: UUID | str,
        memory: UUID | str,
        *,
        position: int | None = None,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        version: int | None = None,
    ) -> OrderedChain:
        """Put a memory into a chain: at its end, at a position, or beside another of its memories.

        Raises NotFound, NotAllowed, VersionMismatch, Conflict where it is in the chain already.
        """
        body = {"memory_id": str(memory), **_spot(position, before, after)}
        return await self._ask("POST", f"{_of(chain)}/items", body, version)

    async def move(
        self,
        chain: UUID | str,
        memory: UUID | str,
        *,
        position: int | None = None,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        version: int | None = None,
    ) -> OrderedChain:
        """Move a memory within a chain, to one of these. Raises NotFound, NotAllowed, VersionMismatch, Conflict."""
        path = f"{_of(chain)}/items/{UUID(str(memory))}"
        return await self._ask("PATCH", path, _spot(position, before, after), version)

    async def reorder(
        self, chain: UUID | str, memories: Sequence[UUID | str], *, version: int | None = None
    ) -> OrderedChain:
        """All the memories that you see in it, in another order. Raises Conflict where they are not just these."""
        body = {"memory_ids": [str(one) for one in memories]}
        return await self._ask("PUT", f"{_of(chain)}/items", body, version)

    async def remove(self, chain: UUID | str, memory: UUID | str, *, version: int | None = None) -> OrderedChain:
        """Take a memory out of a chain; the memory stays. Raises NotFound, NotAllowed, VersionMismatch."""
        return await self._ask("DELETE", f"{_of(chain)}/items/{UUID(str(memory))}", None, version)

    async def _ask(
        self, method: Method, path: str, body: Mapping[str, Any] | None, version: int | None
    ) -> OrderedChain:
        return await self._transport.ask(OrderedChain, method, path, body=body, version=version)


def _of(chain: UUID | str) -> str:
    return f"chains/{UUID(str(chain))}"


def _spot(position: int | None, before: UUID | str | None, after: UUID | str | None) -> dict[str, Any]:
    beside = {"before": before, "after": after}
    spot: dict[str, Any] = {name: str(value) for name, value in beside.items() if value is not None}
    return spot if position is None else {**spot, "position": position}

"""What lies around the memories of the model: tasks and chains they stand in, their lineage, pages of a listing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, rule
from tests.integration.gateway.book_model import KEPT, NAMES, Book, Remembered

from memcube_common.ids import new_id

TASKS: Final = ("T-1", "T-2")
DIFFERS: Final = ("label", "content", "tags", "metadata", "priority", "kv_hint", "lifecycle")
roles = st.sampled_from(["READ", "WRITE"])
tasks = st.sampled_from(TASKS)


class WholeBook(Book):
    """The memory book with all that its memories belong to; see `Book`."""

    chains = Bundle("chains")

    @initialize()
    def begin_around(self) -> None:
        """Nothing belongs to anything yet."""
        self.links: set[tuple[str, str, str]] = set()  # task, memory, role
        self.orders: dict[str, list[str]] = {}

    def seen(self, memory_id: str, who: str) -> Remembered | None:
        """The memory, if it is there and `who` may see it."""
        memory = self.known.get(memory_id)
        return memory if memory is not None and memory.seen_by(who) else None

    def task(self, name: str) -> str:
        """The task's id: the project is shared by the examples."""
        return f"{self.mark}-{name}"

    @rule(who=Book.who, memory_id=Book.memories, private=st.booleans(), frozen=st.sampled_from([False, False, True]))
    def govern(self, who: str, memory_id: str, private: bool, frozen: bool) -> None:
        """Who may see it is stated by its maker and the privileged, and only these end a freeze."""
        if any(memory_id in one.parents or (one.id == memory_id and one.parents) for one in self.known.values()):
            return  # what was derived inherits: tests/integration/governance
        body = {"visibility": "private" if private else "project", "frozen": frozen}
        answer = self.call(who, "PUT", f"memories/{memory_id}/governance", body)
        memory = self.seen(memory_id, who)
        if memory is None:
            assert answer.status_code == 404
        elif memory.frozen and (who != "root" or frozen or private != memory.private):
            assert (answer.status_code, answer.json()["code"]) == (409, "memory_frozen")
        elif who not in ("root", memory.by) and (private, frozen) != (memory.private, memory.frozen):
            assert answer.status_code == 403
        else:
            assert answer.status_code == 200, answer.text
            memory.private, memory.frozen = private, frozen
            memory.next(who)
            self.is_as_remembered(answer, memory)

    @rule(who=Book.who, memory_id=Book.memories, name=tasks, role=roles)
    def link(self, who: str, memory_id: str, name: str, role: str) -> None:
        """A task is linked with what one sees, once in each role."""
        body = {"memory_id": memory_id, "role": role}
        answer = self.call(who, "POST", f"tasks/{self.task(name)}/memories", body)
        if self.seen(memory_id, who) is None:
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (404, "memory_id")
            return
        assert answer.status_code == 200, answer.text
        link = (name, memory_id, role)
        assert answer.json()["links"] == [{**body, "created": link not in self.links}]
        self.links.add(link)

    @rule(who=Book.who, memory_id=Book.memories, name=tasks, role=st.none() | roles)
    def unlink(self, who: str, memory_id: str, name: str, role: str | None) -> None:
        """A link ends in one role or in both; one that is not there, or not seen, is not found."""
        asked = "" if role is None else f"?role={role}"
        answer = self.call(who, "DELETE", f"tasks/{self.task(name)}/memories/{memory_id}{asked}")
        ended = {link for link in self.links if link[:2] == (name, memory_id) and role in (None, link[2])}
        if not ended or self.seen(memory_id, who) is None:
            assert answer.status_code == 404
            return
        assert answer.status_code == 204, answer.text
        self.links -= ended

    @rule(who=Book.who, memory_id=Book.memories, name=tasks)
    def read_links(self, who: str, memory_id: str, name: str) -> None:
        """Both ways, the links of what one sees and no others."""
        there = {link for link in self.links if self.seen(link[1], who)}
        of_task = self.call(who, "GET", f"tasks/{self.task(name)}/memories?limit=200").json()["memories"]
        told = {(name, one["memory"]["id"], link["role"]) for one in of_task for link in one["links"]}
        assert told == {link for link in there if link[0] == name}
        answer = self.call(who, "GET", f"memories/{memory_id}/tasks")
        if self.seen(memory_id, who) is None:
            assert answer.status_code == 404
            return
        of_memory = {(one["task_id"], link["role"]) for one in answer.json()["tasks"] for link in one["links"]}
        assert of_memory == {(self.task(task), role) for task, memory, role in there if memory == memory_id}

    @rule(target=chains, who=Book.who, ids=st.lists(Book.memories, max_size=4, unique=True))
    def make_chain(self, who: str, ids: list[str]) -> str:
        """Of memories that one sees, all of them or none."""
        answer = self.call(who, "POST", "chains", {"name": "chain", "memory_ids": ids})
        if any(self.seen(one, who) is None for one in ids):
            assert answer.status_code == 404
            return ""
        assert (answer.status_code, answer.json()["memory_ids"]) == (201, ids), answer.text
        self.orders[answer.json()["id"]] = list(ids)
        return str(answer.json()["id"])

    @rule(who=Book.who, chain=chains, memory_id=Book.memories, position=st.none() | st.integers(1, 5))
    def add_to_chain(self, who: str, chain: str, memory_id: str, position: int | None) -> None:
        """At the end, or at a place counted over what one sees."""
        body = {"memory_id": memory_id} | ({} if position is None else {"position": position})
        shown = self.shown(chain, who)
        at = len(shown) if position is None else min(position - 1, len(shown))
        answer = self.call(who, "POST", f"chains/{chain or new_id()}/items", body)
        if not chain or self.seen(memory_id, who) is None:
            assert answer.status_code == 404
        elif memory_id in shown:
            assert answer.status_code == 409
        else:
            self.arranged(answer, chain, who, [*shown[:at], memory_id, *shown[at:]])

    @rule(who=Book.who, chain=chains, memory_id=Book.memories)
    def take_from_chain(self, who: str, chain: str, memory_id: str) -> None:
        """Out of it; what is not in it, or not seen, is not there."""
        shown = self.shown(chain, who)
        answer = self.call(who, "DELETE", f"chains/{chain or new_id()}/items/{memory_id}")
        if not chain or memory_id not in shown:
            assert answer.status_code == 404
        else:
            self.arranged(answer, chain, who, [one for one in shown if one != memory_id])

    @rule(who=Book.who, chain=chains, seed=st.randoms(use_true_random=False), all_of_it=st.booleans())
    def reorder_chain(self, who: str, chain: str, seed: Any, all_of_it: bool) -> None:
        """All that one sees, in another order; one more or fewer is refused."""
        order = self.shown(chain, who)
        seed.shuffle(order)
        sent = order if all_of_it else [*order, str(new_id())]
        answer = self.call(who, "PUT", f"chains/{chain or new_id()}/items", {"memory_ids": sent})
        if not chain:
            assert answer.status_code == 404
        elif not all_of_it:
            assert answer.status_code == 409
        else:
            self.arranged(answer, chain, who, order)

    @rule(who=Book.who, chain=chains)
    def read_chain(self, who: str, chain: str) -> None:
        """Everybody reads what they see of it, in its order."""
        answer = self.call(who, "GET", f"chains/{chain or new_id()}?fields=label")
        if not chain:
            assert answer.status_code == 404
            return
        said = answer.json()
        assert [one["memory"]["id"] for one in said["items"]] == self.shown(chain, who)
        assert [one["position"] for one in said["items"]] == list(range(1, said["length"] + 1))

    def shown(self, chain: str, who: str) -> list[str]:
        """What `who` sees of a chain."""
        return [one for one in self.orders.get(chain, []) if self.seen(one, who)]

    def arranged(self, answer: httpx.Response, chain: str, who: str, wanted: Sequence[str]) -> None:
        """The chain shows what was wanted; what the caller does not see stays behind what it followed."""
        assert (answer.status_code, answer.json()["memory_ids"]) == (200, list(wanted)), answer.text
        hidden: dict[str, list[str]] = {"": []}
        before = ""
        for one in self.orders[chain]:
            if one not in self.known:
                continue
            if self.seen(one, who) is None:
                hidden[before].append(one)
            elif one in wanted:
                before = one
                hidden[one] = []
        self.orders[chain] = [*hidden[""], *(each for one in wanted for each in [one, *hidden.get(one, [])])]

    @rule(target=Book.memories, who=Book.who, sources=st.lists(Book.memories, min_size=2, max_size=3, unique=True))
    def synthesize(self, who: str, sources: list[str]) -> str:
        """Several into one, as strictly governed as each of them."""
        body = {"memory_ids": sources, "method": "extractive", "tags": [self.mark]}
        answer = self.call(who, "POST", "memories/synthesize", body)
        met = [memory for source in sources if (memory := self.seen(source, who)) is not None]
        if len(met) < len(sources):
            assert answer.status_code == 422, answer.text
            return str(new_id())
        assert answer.status_code == 201, answer.text
        said = answer.json()
        private = any(source.private for source in met)
        assert (said["parents"], said["governance"]["visibility"] == "private") == (sources, private)
        state = {**{name: said[name] for name in KEPT}, "by": NAMES[who], "lifecycle": "NEW"}
        self.known[said["id"]] = Remembered(said["id"], who, private, False, "NEW", sources, [state])
        return str(said["id"])

    @rule(who=Book.who, memory_id=Book.memories)
    def trace(self, who: str, memory_id: str) -> None:
        """Lineage both ways, over what one sees."""
        answer = self.call(who, "GET", f"memories/{memory_id}/lineage")
        if self.seen(memory_id, who) is None:
            assert answer.status_code == 404
            return
        said = answer.json()
        assert {one["id"] for one in said["ancestors"]} == self.reached(memory_id, who, lambda one: one.parents)
        assert {one["id"] for one in said["descendants"]} == self.reached(
            memory_id, who, lambda one: [other.id for other in self.known.values() if one.id in other.parents]
        )

    def reached(self, memory_id: str, who: str, following: Callable[[Remembered], list[str]]) -> set[str]:
        """What is reached over memories that `who` sees."""
        met: set[str] = set()
        waiting = [*following(self.known[memory_id])]
        while waiting:
            one = self.seen(waiting.pop(), who)
            if one is not None and one.id not in met:
                met.add(one.id)
                waiting += following(one)
        return met

    @rule(who=Book.who, memory_id=Book.memories, one=st.integers(1, 5), other=st.integers(1, 5))
    def compare(self, who: str, memory_id: str, one: int, other: int) -> None:
        """Two versions differ in what the model says, and in nothing else of it."""
        answer = self.call(who, "GET", f"memories/{memory_id}/diff?before={one}&after={other}")
        memory = self.seen(memory_id, who)
        if memory is None or max(one, other) > memory.version:
            assert answer.status_code == 404
            return
        before, after = memory.states[one - 1], memory.states[other - 1]
        told = {change["field"] for change in answer.json()["changes"]} & {*DIFFERS}
        assert told == {name for name in DIFFERS if before[name] != after[name]}

    @rule(
        who=Book.who,
        by=st.sampled_from(["created_at", "updated_at", "label"]),
        order=st.sampled_from(["asc", "desc"]),
        limit=st.integers(1, 4),
    )
    def turn_pages(self, who: str, by: str, order: str, limit: int) -> None:
        """Page by page, each memory once and in order, and as many as are counted."""
        query = {"tags": [self.mark], "order_by": by, "order": order, "limit": limit, "fields": [by], "count": True}
        expected = {one.id for one in self.known.values() if one.seen_by(who) and one.lifecycle != "ARCHIVED"}
        found: list[tuple[str, str]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.call(who, "POST", "memories/query", {**query, **cursor}).json()
            assert (page["total"], page["total_is_exact"]) == (len(expected), True)
            found += [(one[by], one["id"]) for one in page["memories"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert found == sorted(found, reverse=order == "desc")
        assert [one for _, one in found] == list(dict.fromkeys(one for _, one in found))
        assert {one for _, one in found} == expected

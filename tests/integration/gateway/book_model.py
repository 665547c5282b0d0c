"""The memory book in plain Python, and a machine that does the same to it and to the gateway, step by step."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from memcube_common.ids import new_id

WORDS: Final = ("amber", "basalt", "cedar", "dune", "ember", "fjord")
TAGS: Final = ("red", "green", "blue")
NAMES: Final = {"root": "development", "ada": "ada", "bo": "bo"}
"""The handles behind the keys."""
KEPT: Final = ("label", "content", "tags", "metadata", "priority", "kv_hint")

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join) | st.sampled_from(
    ["x" * 5000 + " long", "ünïcødé ☂ 漢字", "a\nb\nc", "0"]
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "label": st.sampled_from([*WORDS, "L" * 200, "ß"]),
        "tags": st.lists(st.sampled_from(TAGS), max_size=3, unique=True),
        "metadata": st.dictionaries(st.sampled_from("abc"), st.integers(-9, 9) | st.none() | st.booleans(), max_size=2),
        "priority": st.sampled_from(["HOT", "WARM", "COLD"]),
        "kv_hint": st.sampled_from(["slot-1", "slot-2"]),
    },
)
versions = st.sampled_from(["none", "right", "wrong"])


@dataclass
class Remembered:
    """What the model knows of one memory."""

    id: str
    by: str
    private: bool
    frozen: bool
    lifecycle: str
    parents: list[str]
    states: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def version(self) -> int:
        return len(self.states)

    @property
    def now(self) -> dict[str, Any]:
        return self.states[-1]

    def next(self, by: str, **changed: Any) -> None:
        """Another version."""
        self.states.append({**copy.deepcopy(self.now), **changed, "by": NAMES[by], "lifecycle": self.lifecycle})

    def seen_by(self, who: str) -> bool:
        return who == "root" or self.by == who or not self.private

    def changed_by(self, who: str) -> bool:
        return self.seen_by(who)  # both are AGENTs or privileged, and write_roles is AGENT


class Book(RuleBasedStateMachine):
    """`clients`: HTTP clients into one fresh project: `root` (SERVICE), `ada` and `bo` (AGENT)."""

    clients: dict[str, httpx.Client]
    steps = 0
    memories = Bundle("memories")
    who = st.sampled_from(["root", "ada", "bo"])

    @initialize()
    def begin(self) -> None:
        """Nothing is known yet."""
        self.known: dict[str, Remembered] = {}
        self.mark = f"t-{uuid4().hex[:12]}"  # the project is shared by the examples, the mark is this one's own
        self.keys: list[tuple[str, dict[str, Any], str, bytes]] = []

    def call(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request of one caller."""
        type(self).steps += 1
        answer = self.clients[who].request(method, path, json=body, headers=headers)
        assert answer.status_code < 500, answer.text
        return answer

    def expected(self, memory: Remembered, how: str) -> dict[str, str]:
        """The header of a change meant for the right version, a wrong one, or any."""
        if how == "none":
            return {}
        return {"if-match": f'"{memory.version + (how == "wrong")}"'}

    @rule(
        target=memories,
        who=who,
        content=texts,
        given=fields,
        private=st.booleans(),
        frozen=st.sampled_from([False, False, False, True]),
    )
    def create(self, who: str, content: str, given: dict[str, Any], private: bool, frozen: bool) -> str:
        """A memory is made, and reads back as it was given."""
        memory_id = str(new_id())
        body = {"id": memory_id, "content": content, **given, "tags": [*given.get("tags", []), self.mark]}
        if private or frozen:
            body["governance"] = {"visibility": "private" if private else "project", "frozen": frozen}
        key = uuid4().hex
        answer = self.call(who, "POST", "memories", body, **{"idempotency-key": key})
        assert answer.status_code == 201, answer.text
        state = {
            "label": given.get("label") or answer.json()["label"], "content": content, "tags": body["tags"],
            "metadata": given.get("metadata", {}), "priority": given.get("priority", "WARM"),
            "kv_hint": given.get("kv_hint"), "by": NAMES[who], "lifecycle": "NEW",
        }  # fmt: skip
        self.known[memory_id] = Remembered(memory_id, who, private, frozen, "NEW", [], [state])
        self.keys.append((who, body, key, answer.content))
        return memory_id

    @rule(number=st.integers(0, 50))
    def send_again(self, number: int) -> None:
        """The same POST under the same key gets the same answer, or none once purged; other bodies are refused."""
        if not self.keys:
            return
        who, body, key, said = self.keys[number % len(self.keys)]
        again = self.call(who, "POST", "memories", body, **{"idempotency-key": key})
        if body["id"] in self.known:
            assert (again.status_code, again.content) == (201, said)
        else:
            assert again.status_code == 404
        other = self.call(who, "POST", "memories", {**body, "content": "other"}, **{"idempotency-key": key})
        assert other.status_code == 422

    @rule(target=memories, who=who, sources=st.lists(memories, min_size=1, max_size=2, unique=True))
    def derive(self, who: str, sources: list[str]) -> str:
        """What is derived from what one may read is no more open than that."""
        memory_id = str(new_id())
        body = {"id": memory_id, "content": "derived", "parents": sources, "tags": [self.mark]}
        answer = self.call(who, "POST", "memories", body)
        met = [self.known[source] for source in sources if source in self.known and self.known[source].seen_by(who)]
        if len(met) < len(sources):
            assert answer.status_code == 422, answer.text
            return memory_id
        assert answer.status_code == 201, answer.text
        said = answer.json()
        private = any(source.private for source in met)
        assert (said["governance"]["visibility"] == "private") == private
        state = {**{name: said[name] for name in KEPT}, "by": NAMES[who], "lifecycle": "NEW"}
        self.known[memory_id] = Remembered(memory_id, who, private, False, "NEW", sources, [state])
        return memory_id

    @rule(who=who, memory_id=memories, change=fields, content=st.none() | texts, how=versions)
    def update(self, who: str, memory_id: str, change: dict[str, Any], content: str | None, how: str) -> None:
        """A change makes the next version, or is refused and changes nothing."""
        body = {**change, **({} if content is None else {"content": content})}
        memory = self.known.get(memory_id)
        if "tags" in body:
            body["tags"] = [*body["tags"], self.mark]
        headers = {} if memory is None else self.expected(memory, how)
        answer = self.call(who, "PATCH", f"memories/{memory_id}", body, **headers)
        if not body:
            assert answer.status_code == 422
        elif memory is None or not memory.seen_by(who):
            assert answer.status_code == 404
        elif how == "wrong":
            assert answer.status_code == 412
        elif memory.frozen:
            assert (answer.status_code, answer.json()["code"]) == (409, "memory_frozen")
        elif not self.reaches(memory, who):
            assert answer.status_code == 403
        else:
            assert answer.status_code == 200, answer.text
            memory.next(who, **body)
            self.is_as_remembered(answer, memory)

    def reaches(self, memory: Remembered, who: str) -> bool:
        """Whether `who` may change it: SERVICE, its maker, and AGENTs unless its governance keeps them out."""
        return memory.changed_by(who)

    def is_as_remembered(self, answer: httpx.Response, memory: Remembered) -> None:
        """What a change answers is the whole memory as the model has it now."""
        said = answer.json()
        assert {name: said[name] for name in KEPT} == {name: memory.now[name] for name in KEPT}
        assert (said["version"], said["lifecycle"]) == (memory.version, memory.lifecycle)

    @rule(who=who, memory_id=memories, to=st.sampled_from(["archive", "restore"]), how=versions)
    def move(self, who: str, memory_id: str, to: str, how: str) -> None:
        """Put away and taken back; twice is once."""
        memory = self.known.get(memory_id)
        headers = {} if memory is None else self.expected(memory, how)
        answer = self.call(who, "POST", f"memories/{memory_id}/{to}", **headers)
        if memory is None or not memory.seen_by(who):
            assert answer.status_code == 404
            return
        if how == "wrong":
            assert answer.status_code == 412
            return
        away = memory.lifecycle == "ARCHIVED"
        if away == (to == "archive"):
            assert (answer.status_code, answer.json()["version"]) == (200, memory.version)
        elif memory.frozen:
            assert (answer.status_code, answer.json()["code"]) == (409, "memory_frozen")
        else:
            assert answer.status_code == 200, answer.text
            memory.lifecycle = "ARCHIVED" if to == "archive" else "ACTIVE"
            memory.next(who)
            self.is_as_remembered(answer, memory)

    @rule(who=who, memory_id=memories, number=st.integers(1, 6))
    def go_back(self, who: str, memory_id: str, number: int) -> None:
        """An earlier version in force again is a new version with what it said."""
        memory = self.known.get(memory_id)
        answer = self.call(who, "POST", f"memories/{memory_id}/versions/{number}/restore")
        if memory is None or not memory.seen_by(who) or number > memory.version:
            assert answer.status_code == 404
        elif memory.frozen:
            assert (answer.status_code, answer.json()["code"]) == (409, "memory_frozen")
        else:
            assert answer.status_code == 200, answer.text
            memory.next(who, **{name: memory.states[number - 1][name] for name in KEPT})
            self.is_as_remembered(answer, memory)

    @rule(who=who, memory_id=consumes(memories), how=versions)
    def purge(self, who: str, memory_id: str, how: str) -> None:
        """Ended by its maker or the privileged, or refused."""
        memory = self.known.get(memory_id)
        headers = {} if memory is None else self.expected(memory, how)
        answer = self.call(who, "DELETE", f"memories/{memory_id}", **headers)
        if memory is None or not memory.seen_by(who):
            assert answer.status_code == 404
        elif how == "wrong":
            assert answer.status_code == 412
        elif who not in ("root", memory.by):
            assert answer.status_code == 403
        elif memory.frozen:
            assert (answer.status_code, answer.json()["code"]) == (409, "memory_frozen")
        else:
            assert answer.status_code == 200, answer.text
            del self.known[memory_id]

    @rule(who=who, good=st.lists(texts, min_size=1, max_size=3), bad=st.booleans(), atomic=st.booleans())
    def batch(self, who: str, good: list[str], bad: bool, atomic: bool) -> None:
        """A batch is kept as a whole, or each for itself."""
        given: list[dict[str, Any]] = [
            {"id": str(new_id()), "content": content, "tags": [self.mark]} for content in good
        ]
        sent = [*given, *([{"content": ""}] if bad else [])]
        answer = self.call(who, "POST", "memories/batch", {"memories": sent, "atomic": atomic})
        if bad and atomic:
            assert answer.status_code == 422
            return
        assert answer.status_code == 200, answer.text
        assert [r["status"] for r in answer.json()["results"]] == ["created"] * len(given) + ["refused"] * bad
        for one in given:
            label = self.call(who, "GET", f"memories/{one['id']}").json()["label"]
            state: dict[str, Any] = {
                "label": label, "content": one["content"], "tags": [self.mark], "metadata": {}, "priority": "WARM",
                "kv_hint": None, "by": NAMES[who], "lifecycle": "NEW",
            }  # fmt: skip
            self.known[one["id"]] = Remembered(one["id"], who, False, False, "NEW", [], [state])

    @rule(who=who, memory_id=memories)
    def read(self, who: str, memory_id: str) -> None:
        """What is read, and every version of it, is what the model says."""
        memory = self.known.get(memory_id)
        answer = self.call(who, "GET", f"memories/{memory_id}")
        listed = self.call(who, "GET", f"memories/{memory_id}/versions")
        if memory is None or not memory.seen_by(who):
            assert (answer.status_code, listed.status_code) == (404, 404)
            return
        said = answer.json()
        assert {name: said[name] for name in KEPT} == {name: memory.now[name] for name in KEPT}
        assert (said["version"], said["lifecycle"], said["created_by"]) == (
            memory.version,
            memory.lifecycle,
            NAMES[memory.by],
        )
        told = listed.json()["versions"]
        assert [v["version"] for v in told] == list(range(memory.version, 0, -1))
        for version, state in zip(reversed(told), memory.states, strict=True):
            names = ("label", "tags", "metadata", "priority", "kv_hint", "by", "lifecycle")
            assert {name: version[name] for name in names} == {name: state[name] for name in names}
        number = 1 + memory.version // 2
        one = self.call(who, "GET", f"memories/{memory_id}/versions/{number}").json()
        assert one["content"] == memory.states[number - 1]["content"]

    @rule(who=who, tag=st.none() | st.sampled_from(TAGS), lifecycle=st.sampled_from([None, "ARCHIVED"]))
    def find(self, who: str, tag: str | None, lifecycle: str | None) -> None:
        """A listing shows exactly what the reader may see, in force or put away as asked."""
        query: dict[str, Any] = {"tags": [self.mark, *([tag] if tag else [])], "limit": 200}
        if lifecycle:
            query["lifecycle"] = [lifecycle]
        answer = self.call(who, "POST", "memories/query", query)
        assert answer.status_code == 200, answer.text
        expected = {
            memory.id
            for memory in self.known.values()
            if memory.seen_by(who)
            and (memory.lifecycle == "ARCHIVED") == (lifecycle == "ARCHIVED")
            and (tag is None or tag in memory.now["tags"])
        }
        assert {one["id"] for one in answer.json()["memories"]} == expected

    @rule(who=who, word=st.sampled_from(WORDS))
    def find_words(self, who: str, word: str) -> None:
        """Words are found in what is in force, label or content, and nowhere else."""
        query = {"text": word, "mode": "keyword", "tags": [self.mark], "limit": 200}
        answer = self.call(who, "POST", "memories/query", query)
        expected = {
            memory.id
            for memory in self.known.values()
            if memory.seen_by(who) and memory.lifecycle != "ARCHIVED"
            and word in f"{memory.now['label']} {memory.now['content']}".split()
        }  # fmt: skip
        assert {one["id"] for one in answer.json()["memories"]} == expected

    @invariant()
    def nothing_is_lost(self) -> None:
        """Everything the model knows is there: asked of a few, since each step asks."""
        for memory_id in list(getattr(self, "known", {}))[-1:]:
            answer = self.call("root", "GET", f"memories/{memory_id}")
            assert answer.status_code == 200
            self.is_as_remembered(answer, self.known[memory_id])

"""Recommendations: from agents alike, nothing known already, always the same, and bounded."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest

from memcube_common.feedback import likeness
from memcube_common.feedback.domain import Profile
from memcube_common.feedback.likeness import LATELY, Use, recommend

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def one(name: str) -> UUID:
    return uuid5(UUID(int=0), name)


def use(agent: str, memory: str, *, by: str = "mia", ago: timedelta = timedelta(hours=1), **counts: int) -> Use:
    return Use(Profile(by, agent), one(memory), NOW - ago, **({"scheduled": 1} | counts))


def shared(*agents: str, many: int = 4) -> list[Use]:
    """These agents used the same memories."""
    return [use(agent, f"shared {n}", used=1) for agent in agents for n in range(many)]


def recommended(uses: list[Use], agent: str, by: str = "mia") -> list[UUID]:
    return [r.memory_id for r in recommend(uses, NOW).get(Profile(by, agent), [])]


def test_what_an_agent_alike_found_helpful_is_recommended_and_why() -> None:
    uses = [*shared("ann", "ben"), use("ben", "trick", helpful=1)]
    (best,) = recommend(uses, NOW)[Profile("mia", "ann")]
    assert (best.memory_id, best.because) == (one("trick"), ("ben",))
    assert best.score == pytest.approx(1.0)


def test_an_agent_with_nothing_in_common_recommends_nothing() -> None:
    uses = [*shared("ann", "ben"), use("zoe", "elsewhere", helpful=9)]
    assert one("elsewhere") not in recommended(uses, "ann")
    assert recommended(uses, "zoe") == []


def test_the_more_alike_agent_is_heard_first() -> None:
    uses = [*shared("ann", "ben", many=6), use("cid", "shared 0", used=1), use("cid", "other", used=5)]
    uses += [use("ben", "from ben", helpful=1), use("cid", "from cid", helpful=1)]
    assert recommended(uses, "ann")[:2] == [one("from ben"), one("from cid")]


def test_what_was_only_given_out_is_not_recommended() -> None:
    assert recommended([*shared("ann", "ben"), use("ben", "seen", scheduled=50)], "ann") == []


def test_what_did_harm_is_not_recommended() -> None:
    uses = [*shared("ann", "ben", "cid"), use("ben", "risky", helpful=1), use("cid", "risky", harmful=2)]
    assert one("risky") not in recommended(uses, "ann")


def test_what_the_agent_was_given_lately_is_not_recommended_but_what_it_forgot_is() -> None:
    uses = [*shared("ann", "ben"), use("ben", "trick", helpful=1)]
    assert recommended([*uses, use("ann", "trick")], "ann") == []
    assert recommended([*uses, use("ann", "trick", ago=LATELY + timedelta(hours=1))], "ann") == [one("trick")]


def test_what_the_agent_itself_called_harmful_is_never_recommended_to_it() -> None:
    uses = [*shared("ann", "ben"), use("ben", "trick", helpful=1)]
    uses.append(use("ann", "trick", harmful=1, ago=LATELY + timedelta(days=9)))
    assert recommended(uses, "ann") == []


def test_agents_of_one_name_under_two_principals_are_two() -> None:
    uses = [*shared("ann", "ben"), use("ben", "trick", helpful=1), use("ann", "theirs", by="eve", helpful=1)]
    assert recommended(uses, "ann") == [one("trick")]
    assert recommended(uses, "ann", by="eve") == []


def test_it_is_the_same_in_any_order() -> None:
    draw = random.Random(7)
    uses = [
        use(f"a{agent}", f"m{draw.randrange(60)}", used=draw.randrange(3), helpful=draw.randrange(2))
        for agent in range(30)
        for _ in range(20)
    ]
    uses = list({(u.profile, u.memory_id): u for u in uses}.values())
    first = recommend(uses, NOW)
    draw.shuffle(uses)
    assert recommend(uses, NOW) == first
    assert all(0 < r.score <= 1 for those in first.values() for r in those)


def test_the_agents_that_were_active_last_are_compared_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "AGENTS_MAX", 2)
    uses = [*shared("ann", "ben"), use("ben", "trick", helpful=1)]
    uses += [use("old", f"shared {n}", used=1, ago=timedelta(days=2)) for n in range(4)]
    assert set(recommend(uses, NOW)) <= {Profile("mia", "ann"), Profile("mia", "ben")}
    assert recommended(uses, "ann") == [one("trick")]


def test_of_one_agent_the_memories_it_was_given_last_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "USES_MAX", 5)
    uses = [*shared("ann", "ben"), use("ben", "new", helpful=1), use("ben", "old", helpful=1, ago=timedelta(days=3))]
    assert recommended(uses, "ann") == [one("new")]

"""A source of thousands, told of on connections that have seen only single changes before: it is governed and ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest
from tests.e2e.running_stack import RunningStack, eventually
from tests.faults.conftest import Say

CHILDREN = 5_000
AT_ONCE = 250
WITHIN = 30.0


@pytest.mark.timeout(180)
async def test_a_source_of_five_thousand_is_ended(stack: RunningStack, say: Say) -> None:
    async with httpx.AsyncClient(
        base_url=f"{stack.gateway}/v1/projects/{stack.project}/",
        headers={"authorization": f"Bearer {stack.key}"},
        timeout=30,
    ) as http:
        governance = {"read_roles": ["AGENT"], "principals": {"allow": ["ada", "bo"]}}
        root = (await http.post("memories", json={"content": "The kettle.", "governance": governance})).json()["id"]
        single = (await http.post("memories", json={"content": "A cup.", "parents": [root]})).json()["id"]
        for n in range(16):  # every connection of the gateway plans for one
            await http.patch(f"memories/{single}", json={"label": f"cup {n}", "governance": {"read_roles": []}})
        for begin in range(0, CHILDREN, AT_ONCE):
            given = [{"content": f"Verse {begin + n}.", "parents": [root]} for n in range(AT_ONCE)]
            await until_done(lambda given=given: http.post("memories/batch", json={"memories": given}))
        ended = await until_done(lambda: http.delete(f"memories/{root}"))
        say(f"a source of {CHILDREN} ended in {ended.elapsed.total_seconds():.2f} s")
        assert (await http.get(f"memories/{single}")).json()["parents"] == []


async def until_done(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The answer, once it is not that the house is too busy just now."""

    async def answered() -> httpx.Response | None:
        answer = await ask()
        return None if answer.status_code == 503 else answer

    answer = await eventually(answered, within=WITHIN, what="an answer")
    assert answer is not None
    assert answer.status_code == 200, answer.text
    return answer

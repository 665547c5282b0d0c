"""The gateway keeps its own OpenAPI document: no 5xx, no undocumented status, no answer of another shape or type.

`MEMCUBE_CONFORMANCE_CASES` says how many cases there are in all (`make conformance`: 5,000).
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup
from tests.fakes.embedding_room import FakeEmbeddingRoom
from tests.fakes.running_gateway import RunningGateway, running_gateway
from tests.house_people import Person, an_owner
from tests.integration.scheduling.conftest import scheduling_room

from memcube_common.ids import new_id
from memcube_common.testing.servers import HouseDatabase, HouseProject

CASES: Final = int(os.environ.get("MEMCUBE_CONFORMANCE_CASES", "100"))
TURNS_MOST: Final = 8
ENDLESS: Final = frozenset({"follow_changes"})
LAST: Final = (
    "unlink_task_memory", "remove_chain_item", "delete_chain", "purge_memory", "seed_memories_crud",
    "change_member", "remove_member", "revoke_key", "change_password", "sign_out",
)  # fmt: skip
PEOPLE: Final = frozenset(
    {"list_projects", "make_project", "set_project", "invite_member", "change_member", "remove_member", "list_keys",
     "make_key", "revoke_key", "get_account", "join_project", "sign_out", "change_password", "list_project_events"}
)  # fmt: skip
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@dataclass
class Attack:
    """Cases of every operation against a gateway; what was found, by operation."""

    url: str
    key: str
    owner: Person
    known: Mapping[str, str]
    cases: int
    tried: int = 0
    statuses: dict[int, int] = field(default_factory=dict[int, int])
    found: dict[str, str] = field(default_factory=dict[str, str])
    judges: list[Any] = field(default_factory=list[Any])
    unreached: set[str] = field(default_factory=set[str])
    """Operations that were never called as the document says."""

    def run(self, document: dict[str, Any]) -> None:
        """Every operation, those that end something last."""
        judges: Any = checks
        judges.load_all_checks()
        self.judges = judges.CHECKS.get_by_names(list(CHECKS))
        schema: Any = schemathesis.openapi.from_dict(document)
        every: list[Any] = [result.ok() for result in schema.get_all_operations()]
        operations: dict[str, Any] = {str(one.definition.raw["operationId"]): one for one in every}
        self.unreached = set(operations)
        in_order = [*(name for name in operations if name not in LAST), *(name for name in LAST if name in operations)]
        for turn in range(TURNS_MOST):  # some operations have only so many cases: others make up for them
            each = math.ceil((self.cases - self.tried) / len(in_order))
            if each <= 0:
                return
            for number, name in enumerate(in_order):
                if name not in self.found:
                    fit, seed = math.ceil(each / 2), turn * len(in_order) + number
                    self._of(name, operations[name], GenerationMode.POSITIVE, fit, seed=seed)
                    self._of(name, operations[name], GenerationMode.NEGATIVE, each - fit, seed=seed)

    def _of(self, name: str, operation: Any, mode: GenerationMode, many: int, *, seed: int) -> None:
        """Cases that fit the document, or that break it in one place."""
        if many == 0 or name in self.found:
            return

        @hypothesis.seed(seed)
        @settings(
            max_examples=many,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        @given(case=operation.as_strategy(generation_mode=mode), at_home=strategies.integers(0, 9))
        def attack(case: Any, at_home: int) -> None:
            if at_home != 9:  # one in ten goes to whatever project and memory was made up
                case.path_parameters = {**(case.path_parameters or {}), **self._own(case.path_parameters or {})}
            secret = self.owner.access if name in PEOPLE else self.key
            self.tried += 1
            if mode is GenerationMode.POSITIVE:
                self.unreached.discard(name)
            headers = {"Authorization": f"Bearer {secret}"}
            if name in ENDLESS:
                self._begin(case, operation.definition.raw["responses"], headers)
                return
            answer = case.call(base_url=self.url, headers=headers, timeout=30)
            self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
            case.validate_response(answer, checks=self.judges)

        try:
            attack()
        except Unsatisfiable:  # there is nothing in it to break
            return
        except (FailureGroup, ExceptionGroup, AssertionError, OSError) as error:
            self.found[name] = "\n".join(str(one) for one in getattr(error, "exceptions", [error]))[:1500]

    def _begin(self, case: Any, documented: Mapping[str, Any], headers: dict[str, str]) -> None:
        """The head of an answer that does not end: its status and type are those of the document."""
        with requests.request(**case.as_transport_kwargs(self.url, headers), stream=True, timeout=30) as answer:
            status, media = answer.status_code, answer.headers.get("content-type", "").partition(";")[0]
        self.statuses[status] = self.statuses.get(status, 0) + 1
        assert media in documented.get(str(status), {}).get("content", {}), f"{status} as {media} is not documented"

    def _own(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        return {name: value for name, value in self.known.items() if name in parameters}


# The gateway and the rooms it asks run in this process: what they roll is no doing of a strategy.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.timeout(120 + CASES // 5)
async def test_every_operation_answers_as_the_document_says(
    database: HouseDatabase,
    project: HouseProject,
    embedding_room: FakeEmbeddingRoom,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with running_gateway(database) as gateway, scheduling_room(database):
        attack = await _prepared(gateway, database, project)
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            document = (await client.get("/openapi.json")).json()
        await asyncio.to_thread(attack.run, document)

    with capsys.disabled():
        print(f"\n{attack.tried} cases, answered {dict(sorted(attack.statuses.items()))}")  # noqa: T201
    assert attack.found == {}, "\n\n".join(f"{name}: {what}" for name, what in attack.found.items())
    assert attack.tried >= CASES
    assert attack.unreached == set()
    assert {200, 201, 202, 404, 422} <= set(attack.statuses)


async def _prepared(gateway: RunningGateway, database: HouseDatabase, project: HouseProject) -> Attack:
    """A project with something in it, and people and keys that may do everything."""
    memory, receipt = new_id(), new_id()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=15) as client:
        owner = await an_owner(database, client, project.slug)
        at = f"/v1/projects/{project.slug}"
        mine = project.authorization
        for path, body in (
            ("memories", {"id": str(memory), "content": "A memory to try things on."}),
            ("insights", {"id": str(receipt), "insight": "An insight to ask about."}),
            ("tasks/TASK-1/memories", {"memory_id": str(memory)}),
        ):
            made = await client.post(f"{at}/{path}", json=body, headers=mine)
            assert made.is_success, made.text
        chain = (
            await client.post(f"{at}/chains", json={"name": "chain", "memory_ids": [str(memory)]}, headers=mine)
        ).json()
        asked = {"agent_id": "bot-001"}
        schedule = (await client.post(f"{at}/memories/schedule", json=asked, headers=mine)).json()
    known: dict[str, str | UUID] = {
        "project": project.slug, "memory_id": memory, "receipt_id": receipt, "insight_id": receipt,
        "chain_id": chain["id"], "task": "TASK-1", "version": "1", "schedule_id": schedule["id"], "agent": "bot-001",
    }  # fmt: skip
    return Attack(gateway.url, project.key, owner, {name: str(value) for name, value in known.items()}, CASES)

"""docs/API.md is true: every example in it runs, every operation is in it, and it names none that is not there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from tests.e2e.api_examples import Shell, examples_of, misfits, run_python, shape_faults
from tests.e2e.running_stack import RunningStack

from memcube import MemCubeClient
from memcube_common.ids import new_id
from memcube_common.provision import first_owner
from memcube_common.security.passwords import Passwords
from memcube_gateway.app import openapi_document

PAGE: Final = Path(__file__).parents[2] / "docs/API.md"
OPERATION: Final = re.compile(r"^#{2,4} .*`(?P<method>GET|POST|PUT|PATCH|DELETE) (?P<path>/\S+)`", re.MULTILINE)
PASSWORD: Final = "a password of the examples"


async def test_every_example_runs_and_answers_what_is_shown(
    stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, email = f"api-{new_id().hex[-12:]}", f"owner-{uuid4().hex[:12]}@example.org"
    key = await stack.key_of(project)
    passwords = Passwords(memory_kib=1024, passes=1)
    try:
        hashed = await passwords.hash(PASSWORD)
    finally:
        passwords.close()
    assert await first_owner(
        admin_dsn=stack.postgres, project=project, email=email, name="Olga", handle="olga", password=hashed
    )
    told = {
        "MEMCUBE_URL": stack.gateway,
        "MEMCUBE_KEY": key,
        "MEMCUBE_PROJECT": project,
        "MEMCUBE_EMAIL": email,
        "MEMCUBE_PASSWORD": PASSWORD,
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"__name__": "docs"}
    shell = await Shell.open({"PATH": os.environ["PATH"], **told}, tmp_path)
    ran = 0
    try:
        for example in examples_of(PAGE):
            where = f"docs/API.md:{example.line}"
            match example.language:
                case "bash":
                    printed = await shell.run(f"(unset -f curl; {example.text})" if example.refused else example.text)
                    told = printed.replace(project, "demo")
                    assert shape_faults(example, told) == [], f"{where}\n{example.text}\n{printed}"
                case "python":
                    await run_python(example, names, PAGE)
                case "text":
                    continue
                case other:
                    pytest.fail(f"{where}: a block of '{other}' is run by nobody")
            ran += 1
    finally:
        await shell.close()
        for client in names.values():
            if isinstance(client, MemCubeClient):
                await client.aclose()
    assert ran >= 20


def test_every_operation_has_a_heading_and_every_heading_an_operation() -> None:
    there = {
        f"{method.upper()} {path}"
        for path, operations in openapi_document()["paths"].items()
        for method in operations
        if method != "parameters"
    }
    said = {f"{found['method']} {found['path']}" for found in OPERATION.finditer(PAGE.read_text(encoding="utf-8"))}

    assert there - said == set(), "docs/API.md does not speak of these"
    assert said - there == set(), "docs/API.md speaks of these, and they are not there"


def test_shapes_are_told_apart() -> None:
    answered = {"id": "x", "version": 2, "tags": ["a", "b"], "gone": None, "more": 1, "ok": True}

    assert misfits({"id": "x", "version": 1, "tags": ["…"], "gone": None, "ok": False, "more": "…"}, answered) == []
    assert misfits({"id": 1}, answered)
    assert misfits({"id": "other"}, answered)
    assert misfits("a … c", "a b c") == []
    assert misfits("a … c", "a b d")
    assert misfits({"version": "1"}, answered)
    assert misfits({"missing": 1}, answered)
    assert misfits({"tags": []}, answered)
    assert misfits({"gone": 1}, answered)
    assert misfits({"ok": 1}, answered)

"""The walls in pyproject.toml stand around the whole house: nothing new is left outside by forgetting it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

from memcube_common.provision import ROOMS

ROOT = Path(__file__).parents[2]
SOURCES = (
    sorted(ROOT.glob("libs/*/src/*")) + sorted(ROOT.glob("services/*/src/*")) + sorted(ROOT.glob("sdk/python/src/*"))
)
PACKAGES = {path.name: path for path in SOURCES if (path / "__init__.py").is_file()}


def linter() -> dict[str, Any]:
    return cast("dict[str, Any]", tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"])


def contract(identity: str) -> dict[str, list[str]]:
    return next(c for c in linter()["contracts"] if c["id"] == identity)


def test_every_package_of_the_workspace_is_looked_at() -> None:
    assert set(linter()["root_packages"]) == set(PACKAGES)


def test_every_room_stands_apart() -> None:
    rooms = {f"memcube_{room}" for room in ROOMS}

    assert set(contract("rooms")["modules"]) == {*rooms, "memcube_cli"}
    assert set(contract("tenancy")["source_modules"]) == rooms
    assert set(contract("no-sdk")["source_modules"]) == rooms
    assert set(contract("common")["forbidden_modules"]) == set(PACKAGES) - {"memcube_common"}
    assert set(contract("sdk")["forbidden_modules"]) == set(PACKAGES) - {"memcube"}


def test_every_head_is_kept_from_input_and_output() -> None:
    heads = {
        ".".join(file.relative_to(path.parent).with_suffix("").parts)
        for path in PACKAGES.values()
        for file in path.rglob("domain.py")
    }

    assert set(contract("heads")["source_modules"]) >= heads


def test_the_contracts_know_nothing_of_the_rest_of_the_library() -> None:
    common = PACKAGES["memcube_common"]
    parts = {f"memcube_common.{path.stem}" for path in common.iterdir() if (path / "__init__.py").is_file()}
    parts |= {f"memcube_common.{path.stem}" for path in common.glob("*.py") if path.stem != "__init__"}
    allowed = {"memcube_common.contracts", "memcube_common.ids"}

    assert parts - allowed == {m for m in contract("contracts")["forbidden_modules"] if m.startswith("memcube_common.")}

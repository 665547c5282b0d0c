"""compose.yaml and the image it builds: no secret has a default, and nothing listens to the world."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from memcube_common.bus.accounts import ISSUER_VARIABLE, STATIC_USERS, accounts_configuration, password_variable
from memcube_common.language.settings import LanguageSettings
from memcube_common.provision import ROOMS

ROOT = Path(__file__).parents[2]
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|SEED")
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?P<rest>[^}]*)\}")
Service = dict[str, Any]


def compose() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((ROOT / "compose.yaml").read_text()))


def services() -> dict[str, Service]:
    return cast("dict[str, Service]", compose()["services"])


def test_every_room_runs_as_itself() -> None:
    for room in ROOMS:
        service = services()[room]
        password = f"${{MEMCUBE_LOGIN_PASSWORD_{room.upper()}:?set it}}"

        assert service["command"] == ["python", "-m", f"memcube_{room}"]
        assert f"//memcube_login_{room}:{password}@" in service["environment"]["MEMCUBE_POSTGRES_DSN"]
        assert service["depends_on"] == {"provision": {"condition": "service_completed_successfully"}}
        assert "POSTGRES_PASSWORD" not in str(service)


def test_no_secret_has_a_default() -> None:
    variables = [v for v in VARIABLE.finditer((ROOT / "compose.yaml").read_text()) if SECRET.search(v["name"])]

    names = {v["name"] for v in variables}
    assert {f"MEMCUBE_LOGIN_PASSWORD_{room.upper()}" for room in ROOMS} < names
    assert {password_variable(user) for user in STATIC_USERS} < names
    assert {"MEMCUBE_POSTGRES_PASSWORD", "MEMCUBE_NATS_CALLOUT_SEED", "MEMCUBE_TOKEN_KEYS"} < names
    assert {v["rest"] for v in variables} == {":?set it"}


def test_only_the_gateway_is_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}

    assert published == {"gateway": ["127.0.0.1:${MEMCUBE_PORT:-8080}:8080"]}
    assert compose()["networks"]["inside"] == {"internal": True}
    assert {name for name, s in services().items() if "outside" in s["networks"]} == {
        "gateway",
        "ingestion",
        "embedding",
        "lifecycle",
    }


def test_the_rooms_that_work_with_objects_share_them_and_no_other_room_is_told_their_secrets() -> None:
    told = {name: service.get("environment", {}) for name, service in services().items()}
    sharing = {name for name, environment in told.items() if "S3_SECRET_KEY" in environment}

    assert sharing == {"gateway", "lifecycle"}
    for name in sharing:
        assert services()[name]["volumes"] == [f"objects:{told[name]['MEMCUBE_OBJECTS_DIR']}"]
        assert told[name]["S3_SECRET_KEY"] is None  # handed on from the environment, without a default


@pytest.mark.parametrize("room", ["gateway", "ingestion"])
def test_a_room_that_may_ask_a_language_model_is_told_which_one_and_where(room: str) -> None:
    told = services()[room]["environment"]
    known = LanguageSettings.model_fields

    assert told["OPENAI_API_KEY"] == "${OPENAI_API_KEY:-}"
    assert told["MEMCUBE_LLM_BASE_URL"] == f"${{MEMCUBE_LLM_BASE_URL:-{known['llm_base_url'].default}}}"
    assert told["MEMCUBE_LLM_MODEL"] == f"${{MEMCUBE_LLM_MODEL:-{known['llm_model'].default}}}"


@pytest.mark.parametrize("name", [*ROOMS, "provision"])
def test_what_we_build_may_write_and_gain_nothing(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_file_that_compose_names_is_there() -> None:
    mounts = [str(m) for s in services().values() for m in s.get("volumes", []) if str(m).startswith("./")]
    dockerfile = services()["gateway"]["build"]["dockerfile"]

    assert len(mounts) == 3
    assert [m for m in mounts if not (ROOT / m.split(":")[0]).is_file()] == []
    assert (ROOT / dockerfile).is_file()


def test_the_image_is_built_from_the_hashed_lock_and_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()

    assert "--require-hashes -r requirements.lock" in dockerfile
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["10001:10001"]
    for copied in re.findall(r"^COPY (?!--from)(\S+)", dockerfile, re.MULTILINE):
        assert (ROOT / copied).exists(), copied


def test_nats_syncs_every_message_and_has_no_password_of_its_own() -> None:
    configuration = (ROOT / "deploy/nats/nats.conf").read_text()

    assert re.search(r"^\s*sync_interval: always$", configuration, re.MULTILINE)
    assert "password" not in re.sub(r"#.*", "", configuration)
    accounts = (ROOT / "deploy/nats/accounts.conf").read_text()
    assert accounts == accounts_configuration(), "run: python docs/generate.py"
    assert set(re.findall(r"password: (\S+?)[ ,]", accounts)) == {f"${password_variable(u)}" for u in STATIC_USERS}


def test_every_room_has_its_own_user_on_nats_and_the_server_knows_all_of_them() -> None:
    told = services()["nats"]["environment"]
    for room in ROOMS:
        variable = password_variable(room)
        assert services()[room]["environment"]["MEMCUBE_NATS_URL"] == f"nats://{room}:${{{variable}:?set it}}@nats:4222"
    for name in (*(password_variable(user) for user in STATIC_USERS), ISSUER_VARIABLE):
        assert told[name] == f'"${{{name}:?set it}}"'
    assert [n for n, s in services().items() if "SEED" in str(s)] == ["gateway"]

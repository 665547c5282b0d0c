"""Writes docs/reference/ (HTTP, events, settings) and NATS' accounts from the code. Never edit what it writes.

`python docs/generate.py` writes, `--check` only looks and exits with 1, naming what is stale. It refuses to write
an event's schema that breaks readers or senders of the committed one: that needs a new version of the event.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from pydantic_settings import BaseSettings

from memcube_cli.house import GatewaySettings as AddressSettings
from memcube_cli.provision import ProvisionSettings
from memcube_cli.settings import CliSettings
from memcube_common.bus.accounts import accounts_configuration
from memcube_common.contracts.catalog import EVENTS
from memcube_common.contracts.compatibility import breaking_changes, resolve
from memcube_common.contracts.description import asyncapi, event_schema, example, subject_of, summary_of
from memcube_common.contracts.events import Event
from memcube_common.settings import RoomSettings
from memcube_embedding.settings import EmbeddingSettings
from memcube_gateway.app import openapi_document
from memcube_gateway.settings import GatewaySettings
from memcube_ingestion.settings import IngestionSettings
from memcube_lifecycle.settings import LifecycleSettings
from memcube_marketplace.settings import MarketplaceSettings
from memcube_scheduling.settings import SchedulingSettings

Json: TypeAlias = dict[str, Any]

REFERENCE: Final = Path(__file__).parent / "reference"
_GENERATED: Final = "<!-- Written by docs/generate.py from the code; do not edit. -->\n"


def documents() -> dict[str, str]:
    """Every generated file: its path inside docs/reference, and its text."""
    made = {
        "openapi.json": _json(openapi_document()),
        "asyncapi.json": _json(asyncapi()),
        "events.md": events_page(),
        "settings.md": settings_page(),
        "../../deploy/nats/accounts.conf": accounts_configuration(),
    }
    for name, event in EVENTS.items():
        made[f"events/{name}.json"] = _json(event_schema(event))
        made[f"events/{name}.example.json"] = _json(example(event))
    return dict(sorted(made.items()))


# Events


def events_page() -> str:
    """The events as a page to read: those with the same fields stand together."""
    lines = [
        _GENERATED,
        "# Events",
        "",
        "Facts on NATS. [asyncapi.json](asyncapi.json) holds all of them for machines. Within a version only optional",
        "fields are added, and readers ignore fields they do not know. A fact on CHANGES also carries its name as",
        "`type`. Its `Nats-Msg-Id` is its `id`.",
    ]
    alike: dict[str, list[type[Event]]] = {}
    for event in EVENTS.values():
        alike.setdefault(_json(event.model_json_schema()["properties"]), []).append(event)
    for events in alike.values():
        schema = events[0].model_json_schema()
        required = set(cast("list[str]", schema.get("required", [])))
        noun = ".".join(events[0].type.split(".")[:2])
        lines += ["", f"## {noun} on {events[0].stream}", "", "| event | subject | |", "|---|---|---|"]
        lines += [
            f"| `{event.type}`: {summary_of(event)} | `{subject_of(event).replace('{', '<').replace('}', '>')}` |"
            f" [schema](events/{event.type}.json), [example](events/{event.type}.example.json) |"
            for event in events
        ]
        lines += ["", "| field | form | required | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{field}` | {_form(about, schema)} | {'yes' if field in required else 'no'} |"
            f" {_cell(about.get('description', ''))} |"
            for field, about in cast("dict[str, Json]", schema["properties"]).items()
        ]
    return "\n".join(lines) + "\n"


# Settings

_ROOMS: Final[Sequence[tuple[str, type[BaseSettings]]]] = (
    ("gateway", GatewaySettings),
    ("ingestion", IngestionSettings),
    ("embedding", EmbeddingSettings),
    ("scheduling", SchedulingSettings),
    ("marketplace", MarketplaceSettings),
    ("lifecycle", LifecycleSettings),
)


def settings_page() -> str:
    """Every setting by room: its name in the environment, default, bounds and meaning."""
    lines = [
        _GENERATED,
        "# Settings",
        "",
        "A process reads its settings from the environment once, when it starts, and refuses to start where one is",
        "outside its bounds. Times are in seconds and sizes in bytes unless the meaning says otherwise.",
        "",
        "## Every room",
        "",
        *_table(RoomSettings, RoomSettings.model_fields),
    ]
    for room, settings in _ROOMS:
        own = [
            name
            for name, field in settings.model_fields.items()
            if (shared := RoomSettings.model_fields.get(name)) is None or shared.default != field.default
        ]
        lines += ["", f"## {room}", ""]
        lines += _table(settings, own) if own else ["None of its own."]
    lines += [
        "",
        "## The command `memcube`",
        "",
        "`memcube up` starts the rooms and sets `MEMCUBE_POSTGRES_DSN`, `MEMCUBE_NATS_URL`, `MEMCUBE_HTTP_HOST` and",
        "`MEMCUBE_HTTP_PORT` for each of them; every other setting is handed on from its own environment.",
        "",
        *_table(CliSettings, CliSettings.model_fields),
        "",
        "Commands that speak to a gateway (`insight`, `query`, `watch`, `receipt` …) take it from the stack of the",
        "checkout, or from these:",
        "",
        *_table(AddressSettings, AddressSettings.model_fields),
        "",
        "`memcube provision` prepares servers of one's own. It refuses to where one of these is unset, short or unfit:",
        "",
        *_table(ProvisionSettings, ProvisionSettings.model_fields),
    ]
    return "\n".join(lines) + "\n"


def _table(settings: type[BaseSettings], names: Sequence[str] | Mapping[str, object]) -> list[str]:
    schema = settings.model_json_schema(by_alias=False)
    properties = cast("dict[str, Json]", schema["properties"])
    required = set(cast("list[str]", schema.get("required", [])))
    lines = ["| setting | default | form and bounds | meaning |", "|---|---|---|---|"]
    for name in names:
        field = settings.model_fields[name]
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"{settings.model_config.get('env_prefix', '')}{name}".upper()
        default = "required" if name in required else "unset" if field.default is None else f"`{field.default}`"
        lines.append(
            f"| `{variable}` | {default} | {_form(properties[name], schema)} | {_cell(field.description or '')} |"
        )
    return lines


# Both


def _form(about: Json, root: Json) -> str:
    """A schema in a few words, e.g. 'integer, 1 … 64' or 'text of 1 … 200 characters'."""
    if "$ref" in about:
        about = resolve(about, root)
        if about.get("type") == "object":
            return f"object {about.get('title', '')}".strip()
    if "anyOf" in about:
        return " or ".join(_form(form, root) for form in about["anyOf"])
    if "const" in about:
        return f"`{about['const']}`"
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    kind, style = about.get("type"), about.get("format")
    match kind:
        case "string" if style == "uuid":
            return "UUID"
        case "string" if style == "date-time":
            return "time with zone (RFC 3339)"
        case "string" if style == "path":
            return "path"
        case "string":
            words = "secret" if style == "password" else "text"
            words += _between(about, "minLength", "maxLength", " of {} characters").replace(
                " 1 characters", " 1 character"
            )
            return words + (f" like `{_cell(about['pattern'])}`" if "pattern" in about else "")
        case "integer" | "number":
            return f"{kind}" + _between(about, "minimum", "maximum", ", {}")
        case "array":
            return f"list of {_form(about['items'], root)}" + _between(about, "minItems", "maxItems", ", {} items")
        case "null":
            return "null"
        case None:
            return "anything"
        case _:
            return str(kind)


def _between(about: Json, least: str, most: str, form: str) -> str:
    above = f"exclusive{least.capitalize()}"
    low = f"above {about[above]:g}" if above in about else f"{about[least]:g}" if least in about else ""
    high = f"{about[most]:.15g}" if most in about else ""
    if not low and not high:
        return ""
    if not high:
        return form.format(low if low.startswith("above") else f"at least {low}")
    if not low:
        return form.format(f"at most {high}")
    return form.format(f"{low}, at most {high}" if low.startswith("above") else f"{low} … {high}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _json(document: Json) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


# Writing and checking


def stale(folder: Path, made: Mapping[str, str]) -> list[str]:
    """The files under `folder` that differ from `made`, are missing, or that nothing makes any more."""
    found = [name for name, text in made.items() if _read(folder / name) != text]
    there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted({*found, *(name for name in there if name not in made)})


def broken(folder: Path) -> list[str]:
    """What the events of this code break of the schemas committed under `folder`, one line each."""
    lines: list[str] = []
    for path in sorted((folder / "events").glob("*.v*.json")):
        name = path.name.removesuffix(".json")
        if name.endswith(".example"):
            continue
        event = EVENTS.get(name)
        if event is None:
            lines.append(f"{name}: the event is gone")
            continue
        lines += [f"{name}: {what}" for what in breaking_changes(json.loads(path.read_text()), event_schema(event))]
    return lines


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def main(arguments: Sequence[str]) -> int:
    """Write the reference, or with --check say what of it is stale; the exit code is 1 where something is wrong."""
    if list(arguments) not in ([], ["--check"]):
        print("usage: python docs/generate.py [--check]", file=sys.stderr)
        return 2
    made = documents()
    if broke := broken(REFERENCE):
        print("These events break what is committed; give the event a new version instead:", *broke, sep="\n  ")
        return 1
    wrong = stale(REFERENCE, made)
    if arguments:
        if wrong:
            print("Stale in docs/reference; run: python docs/generate.py", *wrong, sep="\n  ")
        return 1 if wrong else 0
    for name in wrong:
        path = REFERENCE / name
        if name not in made:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[name], encoding="utf-8")
    print(f"{len(made)} files in docs/reference, {len(wrong)} of them written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The events described for machines: JSON Schema, an example of each, and the AsyncAPI document of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from memcube_common.contracts.catalog import EVENTS
from memcube_common.contracts.events import (
    ChainChange,
    Event,
    InsightSubmitted,
    MemoryChange,
    QuotaFact,
    ReceiptFact,
    TaskChange,
)
from memcube_common.ids import AGENT_PATTERN, PROJECT_PATTERN

Json: TypeAlias = dict[str, Any]

_AUTHORS: Final = {
    "INSIGHTS": "Published by agents, read by the ingestion room.",
    "CHANGES": "Published by the relay alone, read by whoever may.",
}


def event_schema(event: type[Event]) -> Json:
    """The JSON Schema of an event's body as it travels; on CHANGES a body also names its type."""
    schema = event.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:memcube:event:{event.type}",
        **_with_type(event, schema),
    }


def example(event: type[Event]) -> Json:
    """A body of that event, the same every time; always with every field."""
    memory, receipt = "019a5f00-0000-7000-8000-0000000000b2", "019a5f00-0000-7000-8000-0000000000a1"
    if issubclass(event, InsightSubmitted):
        body: Json = {
            "id": receipt,
            "insight": "The staging database is rebuilt every Monday at six.",
            "label": "staging rebuild",
            "tags": ["staging", "database"],
            "evidence_refs": ["runbook:staging#rebuild"],
            "sentiment": 0.0,
            "metadata": {"team": "platform"},
        }
        return event.model_validate(body).model_dump(mode="json")
    body = {"id": "demo/42", "project": "demo", "position": 42, "at": "2026-11-22T12:00:00Z"}
    if issubclass(event, MemoryChange):
        lifecycle, changed = _STATES.get(event.type, ("NEW", []))
        body |= {
            "memory_id": memory,
            "version": 1,
            "memory_type": "PLAINTEXT",
            "label": "staging rebuild",
            "tags": ["staging", "database"],
            "lifecycle": lifecycle,
            "actor": "agent-7",
            "changed": changed,
        }
    elif issubclass(event, ReceiptFact):
        body |= {"receipt_id": receipt, "memory_id": memory, "agent": "agent-7", "reason": _REASONS.get(event.type)}
    elif issubclass(event, QuotaFact):
        body |= {"resource": "memories", "used": 1_000_000 if event.type.endswith("exhausted") else 800_000}
        body |= {"max": 1_000_000}
    elif issubclass(event, TaskChange):
        body |= {"memory_id": memory, "task_id": "TASK-123", "role": "READ", "actor": "agent-7"}
    elif issubclass(event, ChainChange):
        gone = event.type.endswith("deleted")
        body |= {"chain_id": receipt, "version": 2, "name": "(deleted)" if gone else "release checklist"}
        body |= {"items": 0 if gone else 3, "actor": "agent-7"}
        body |= {"changed": ["items"]} if event.type.endswith("updated") else {}
    dumped = event.model_validate(body).model_dump(mode="json", exclude_none=True)
    return {"type": event.type, **dumped}


_STATES: Final[Mapping[str, tuple[str, list[str]]]] = {
    "memory.v1.updated": ("NEW", ["label", "tags"]),
    "memory.v1.embedded": ("NEW", ["embedding"]),
    "memory.v1.promoted": ("ACTIVE", ["lifecycle"]),
    "memory.v1.archived": ("ARCHIVED", ["lifecycle"]),
    "memory.v1.expired": ("EXPIRED", ["lifecycle"]),
    "memory.v1.restored": ("ACTIVE", ["lifecycle"]),
}
_REASONS: Final[Mapping[str, str]] = {
    "receipt.v1.failed": "the text is longer than the model reads",
    "receipt.v1.parked": "tags: at most 64 tags",
}


def subject_of(event: type[Event]) -> str:
    """The event's subject with its placeholders, e.g. 'memcube.{project}.memory.v1.created'."""
    return event.subject("{project}", "{agent}" if event.per_agent else None)


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document of every event in the catalog, from MemCube's own point of view."""
    reference = "#/components/schemas/{model}"
    by_model, shared = models_json_schema(
        [(event, "validation") for event in EVENTS.values()],
        ref_template=reference,
    )
    schemas: Json = dict(shared.get("$defs", {}))
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    for name, event in EVENTS.items():
        named = cast("str", by_model[event, "validation"]["$ref"]).removeprefix("#/components/schemas/")
        schemas[named] = _with_type(event, schemas[named])
        key = event.__name__
        parameters: Json = {"project": {"description": f"The project's slug: `{PROJECT_PATTERN}`."}}
        if event.per_agent:
            parameters["agent"] = {"description": f"The sender's name: `{AGENT_PATTERN}`."}
        channels[key] = {
            "address": subject_of(event),
            "description": f"Stream {event.stream}. {_AUTHORS[event.stream]}",
            "parameters": parameters,
            "messages": {key: {"$ref": f"#/components/messages/{key}"}},
            "x-stream": event.stream,
        }
        operations[f"{'receive' if event.stream == 'INSIGHTS' else 'send'}{key}"] = {
            "action": "receive" if event.stream == "INSIGHTS" else "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
        }
        messages[key] = {
            "name": name,
            "contentType": "application/json",
            "summary": summary_of(event),
            "headers": {
                "type": "object",
                "properties": {
                    "Nats-Msg-Id": {"type": "string", "description": "The event's id; a repeat is dropped."}
                },
            },
            "payload": {"$ref": reference.format(model=named)},
            "examples": [{"name": "example", "payload": example(event)}],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "MemCube events",
            "version": "1",
            "description": "Facts on NATS. Within a version of an event only optional fields are added; readers"
            " ignore fields they do not know.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def summary_of(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _with_type(event: type[Event], schema: Json) -> Json:
    if event.stream != "CHANGES":
        return schema
    return {
        **schema,
        "properties": {"type": {"const": event.type, "type": "string"}, **schema["properties"]},
        "required": ["type", *schema["required"]],
    }

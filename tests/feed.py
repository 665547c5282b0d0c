"""Reading the change feed off the bus, as a subscriber sees it, and checking what it promises."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import nats.errors
import orjson
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from memcube_common.contracts.catalog import EVENTS


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of CHANGES."""

    subject: str
    event: dict[str, Any]


async def heard(client: Client, project: str, *, many: int, within: float = 10.0) -> list[Heard]:
    """The first `many` events of `project` in the order of the stream, and proof that there are no more."""
    jetstream = client.jetstream(timeout=5)
    subject = f"memcube.{project}.>"
    subscription = await jetstream.pull_subscribe(
        subject,
        stream="CHANGES",
        config=ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, inactive_threshold=30),
    )
    events: list[Heard] = []
    deadline = asyncio.get_running_loop().time() + within
    while len(events) < many:
        assert asyncio.get_running_loop().time() < deadline, f"{len(events)} of {many} events within {within} s"
        try:
            messages = await subscription.fetch(many - len(events), timeout=0.3)
        except (TimeoutError, nats.errors.TimeoutError):
            continue
        events += [Heard(message.subject, orjson.loads(message.data)) for message in messages]
    await subscription.unsubscribe()
    stored = (await jetstream.stream_info("CHANGES", subjects_filter=subject)).state.subjects or {}
    assert sum(stored.values()) == many, "the stream holds more events than there were changes"
    return events


def assert_sound(project: str, events: list[Heard]) -> None:
    """Positions 1, 2, 3 … without gaps, each event as its contract says, on the subject its class derives."""
    assert [one.event["position"] for one in events] == list(range(1, len(events) + 1))
    for one in events:
        kind = EVENTS[one.event["type"]]
        kind.model_validate_json(orjson.dumps(one.event))
        assert one.event["id"] == f"{project}/{one.event['position']}"
        assert one.subject == kind.subject(project, one.event["agent"] if kind.per_agent else None)

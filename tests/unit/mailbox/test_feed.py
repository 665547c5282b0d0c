"""How a change reads as an event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

from memcube_common.contracts.catalog import EVENTS
from memcube_common.mailbox.feed import event_json

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_an_event_is_its_identity_and_what_the_database_wrote() -> None:
    read = json.loads(event_json("demo", 7, "memory.v1.created", AT, '{"label": "ä\\"", "version": 1}'))
    assert read == {
        "id": "demo/7",
        "type": "memory.v1.created",
        "project": "demo",
        "position": 7,
        "at": "2026-01-02T03:04:05.678901+00:00",
        "label": 'ä"',
        "version": 1,
    }


def test_an_empty_body_is_still_an_object() -> None:
    assert json.loads(event_json("demo", 1, "x", AT, "{}"))["position"] == 1


def test_a_receipt_fits_its_contract() -> None:
    body = json.dumps({"receipt_id": str(uuid4()), "agent": "bot"})
    for name in ("receipt.v1.stored", "receipt.v1.searchable", "receipt.v1.failed", "receipt.v1.parked"):
        EVENTS[name].model_validate_json(event_json("demo", 1, name, AT, body))

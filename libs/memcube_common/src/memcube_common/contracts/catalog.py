"""Every event MemCube knows, by name: what docs, schemas and the AsyncAPI document are generated from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from memcube_common.contracts import events

EVENTS: Mapping[str, type[events.Event]] = MappingProxyType(
    {
        event.type: event
        for event in (
            events.InsightSubmitted,
            events.MemoryCreated,
            events.MemoryUpdated,
            events.MemoryEmbedded,
            events.MemoryPromoted,
            events.MemoryArchived,
            events.MemoryExpired,
            events.MemoryRestored,
            events.MemoryPurged,
            events.ReceiptStored,
            events.ReceiptSearchable,
            events.ReceiptFailed,
            events.ReceiptParked,
            events.QuotaWarned,
            events.QuotaExhausted,
            events.TaskLinked,
            events.TaskUnlinked,
            events.ChainCreated,
            events.ChainUpdated,
            events.ChainDeleted,
        )
    }
)

"""The shipped attack knows how to call every operation of the gateway: a new one without an entry fails here."""

from __future__ import annotations

from memcube_cli.isolation.entries import ENTRIES
from memcube_cli.isolation.http import operations_of
from memcube_gateway.app import openapi_document


def test_every_operation_has_an_entry_and_every_entry_an_operation() -> None:
    operations = {operation.id for operation in operations_of(openapi_document())}
    assert set(ENTRIES) == operations


def test_what_changes_something_is_called_after_what_reads() -> None:
    for operation in operations_of(openapi_document()):
        reads = operation.method == "GET" or operation.id in {"query_memories", "sign_in", "refresh_session"}
        assert reads == (ENTRIES[operation.id].turn == 0), operation.id

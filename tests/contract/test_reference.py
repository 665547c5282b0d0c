"""The reference in docs/ says what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from docs import generate
from docs.generate import REFERENCE, asyncapi, documents, stale

from memcube_common.contracts.catalog import EVENTS


def test_the_committed_reference_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_the_reference_is_the_same_every_time() -> None:
    assert documents() == documents()


def test_what_is_edited_missing_or_left_over_is_named(tmp_path: Path) -> None:
    made = {"a.md": "a\n", "events/b.json": "{}\n", "c.md": "c\n"}
    (tmp_path / "a.md").write_text("a\n")
    (tmp_path / "c.md").write_text("edited\n")
    (tmp_path / "old.md").write_text("nobody writes this any more\n")

    assert stale(tmp_path, made) == ["c.md", "events/b.json", "old.md"]


def test_an_event_that_breaks_its_committed_schema_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = json.loads((REFERENCE / "events" / "memory.v1.created.json").read_text())
    schema["properties"]["colour"] = {"type": "string"}
    before = tmp_path / "events" / "memory.v1.created.json"
    before.parent.mkdir()
    before.write_text(json.dumps(schema))
    monkeypatch.setattr(generate, "REFERENCE", tmp_path)

    assert generate.main([]) == 1
    assert "memory.v1.created: body.colour was removed" in capsys.readouterr().out
    assert json.loads(before.read_text()) == schema


def test_an_event_that_is_gone_from_the_catalog_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "events" / "memory.v1.dreamt.json"
    gone.parent.mkdir()
    gone.write_text("{}")

    assert generate.broken(tmp_path) == ["memory.v1.dreamt: the event is gone"]


def test_every_reference_inside_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}

    assert len(document["channels"]) == len(EVENTS)
    for reference in references:
        at = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in at, reference
            at = at[step]

"""Ids: UUIDv7, the same for the same parent, sorted with it; names that may stand in a subject."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from memcube_common.ids import (
    AgentName,
    ProjectSlug,
    Uuid7,
    derive,
    derive_external,
    is_agent_name,
    is_project_slug,
    new_id,
)

uuids = st.uuids()
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))

HOSTILE_NAMES = [
    "",
    " ",
    ".",
    "*",
    ">",
    "a.b",
    "a b",
    "a*",
    "a>",
    "a\n",
    "a\r\n",
    "a\x00",
    "\x00",
    "ä",
    "a/b",
    "$JS",
    "a'b",
    'a"b',
    "a;b",
    "-a",
    "a" * 65,
    "\ud800",
    "١",
]


@given(uuids, st.text())
def test_a_derived_id_is_a_version_7_uuid_of_its_parents_millisecond(parent: UUID, what: str) -> None:
    derived = derive(parent, what)
    assert derived.version == 7
    assert derived.variant == "specified in RFC 4122"
    assert derived.int >> 80 == parent.int >> 80


@given(uuids, st.text(), st.text())
def test_deriving_is_stable_and_tells_names_apart(parent: UUID, one: str, other: str) -> None:
    assert derive(parent, one) == derive(parent, one)
    assert (derive(parent, one) == derive(parent, other)) == (one == other)


@given(uuids, uuids)
def test_derived_ids_sort_as_their_parents_milliseconds_do(one: UUID, other: UUID) -> None:
    if one.int >> 80 < other.int >> 80:
        assert derive(one, "memory") < derive(other, "memory")


@given(st.text(max_size=10), st.text(max_size=10))
def test_an_external_id_always_becomes_the_same_version_7_uuid(project: str, external: str) -> None:
    derived = derive_external(project, external)
    assert derived == derive_external(project, external)
    assert derived.version == 7


def test_projects_do_not_share_external_ids() -> None:
    assert derive_external("a", "1") != derive_external("b", "1")


def test_new_ids_sort_by_the_time_they_were_made() -> None:
    made = [new_id() for _ in range(1000)]
    assert sorted(made) == made
    assert len(set(made)) == 1000
    assert {one.version for one in made} == {7}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_no_names(name: str) -> None:
    assert not is_project_slug(name)
    assert not is_agent_name(name)
    for kind in (ProjectSlug, AgentName):
        with pytest.raises(ValidationError):
            TypeAdapter[object](kind).validate_python(name)


@given(st.text(max_size=70))
def test_both_readers_of_a_name_agree(name: str) -> None:
    def accepts(kind: Any) -> bool:
        try:
            TypeAdapter[object](kind).validate_python(name)
        except ValidationError:
            return False
        return True

    assert is_project_slug(name) == accepts(ProjectSlug)
    assert is_agent_name(name) == accepts(AgentName)


def test_only_version_7_is_taken_as_an_id() -> None:
    for refused in ("7d444840-9dc0-11d1-b245-5ffdce74fad2", "00000000-0000-0000-0000-000000000000", "x"):
        with pytest.raises(ValidationError):
            TypeAdapter[object](Uuid7).validate_python(refused)
    assert TypeAdapter[object](Uuid7).validate_python(str(new_id()))

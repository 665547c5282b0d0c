"""A principal's values stand in a SET statement: nothing that could end it gets that far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.security.keys import is_well_formed, key_hash, new_key
from memcube_common.security.principal import Principal


@given(st.text(max_size=20))
def test_no_principal_can_end_the_statement_it_stands_in(text: str) -> None:
    for build in (lambda: Principal.user("demo", text, "AGENT"), lambda: Principal.worker("x", text)):
        try:
            principal = build()
        except ValueError:
            continue
        assert not set("'\\;\"\n\x00 $") & set(principal.name + principal.project)


@pytest.mark.parametrize("name", ["", "a'b", "a\n", "x" * 129, "a;b", "\x00", "ä"])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="principal's name"):
        Principal.user("demo", name, "AGENT")


@pytest.mark.parametrize("project", ["A", "a'b", "a\n", "a" * 64, "../x", "a.b"])
def test_hostile_projects_are_refused(project: str) -> None:
    with pytest.raises(ValueError, match="slug"):
        Principal.worker("ingestion", project)


def test_a_key_with_a_typo_is_not_well_formed() -> None:
    key = new_key()
    assert is_well_formed(key)
    assert len(key_hash(key)) == 64
    for place in range(len(key)):
        other = "A" if key[place] != "A" else "B"
        assert not is_well_formed(key[:place] + other + key[place + 1 :])
    for wrong in ("", key + "A", key[:-1], f" {key}", f"{key}\n"):
        assert not is_well_formed(wrong)

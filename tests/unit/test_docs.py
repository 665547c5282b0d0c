"""What is written for people leads somewhere and speaks of no machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_OURS = frozenset({".venv", ".memcube", ".git", "node_modules", "dist", "build"})
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)|!\[[^\]\n]*\]\((?P<image>[^)\s]+)\)")
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`[^`\n]*`")
ELSEWHERE = re.compile(r"^(https?:|mailto:|#)")
MACHINE = re.compile(r"(?<![\w.}/-])/(?:work|root|home|Users|tmp/(?!memcube))\b\S*")


def pages() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.md") if not NOT_OURS & set(p.relative_to(ROOT).parts))


def prose(page: Path) -> str:
    return INLINE.sub("", FENCED.sub("", page.read_text(encoding="utf-8")))


def links(page: Path) -> Iterator[str]:
    for found in LINK.finditer(prose(page)):
        target = found["target"] or found["image"]
        if not ELSEWHERE.match(target):
            yield target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made the way GitHub makes them."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())


@every_page
def test_every_relative_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    wrong: list[str] = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve()
        inside = target.is_relative_to(ROOT)
        if not inside or not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)

    assert wrong == []


@every_page
def test_no_page_speaks_of_a_path_on_somebodys_machine(page: Path) -> None:
    assert MACHINE.findall(page.read_text(encoding="utf-8")) == []


def test_a_readers_first_pages_are_there() -> None:
    wanted = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/tour.md", "docs/glossary.md"]

    assert [name for name in wanted if not (ROOT / name).is_file()] == []

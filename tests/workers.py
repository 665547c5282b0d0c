"""Who gets which tests under `pytest -n`: a module stays whole, and modules that share dear servers stay together."""

from __future__ import annotations

from typing import Final

import pytest
from xdist.scheduler import LoadGroupScheduling

DEAR: Final = ("stack", "breakable", "s3", "house")
"""Fixtures of the whole session that take seconds to start: whoever needs one is given to the same worker."""


class WholeModules(LoadGroupScheduling):
    """Deals out modules, and what was marked as a group, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return super()._split_scope(nodeid).partition("::")[0]


def keep_together(items: list[pytest.Item]) -> None:
    """Mark the modules of which any test asks for a dear fixture, so that it is started once."""
    asked: dict[str, str] = {}
    for item in items:
        for name in DEAR:
            if name in getattr(item, "fixturenames", ()):
                asked.setdefault(item.nodeid.partition("::")[0], name)
    for item in items:
        group = asked.get(item.nodeid.partition("::")[0])
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))

"""What `memcube embeddings` makes of what was found out."""

from __future__ import annotations

import pytest

from memcube_cli.embeddings import percentile
from memcube_common.memories.generations import Progress


@pytest.mark.parametrize(
    ("values", "share", "said"),
    [
        ([3.0], 0.5, 3.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        (list(map(float, range(1, 101))), 0.95, 95.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], share: float, said: float) -> None:
    assert percentile(values, share) == said


def test_progress_counts_what_was_handed_over_and_waits_no_more() -> None:
    def through(*, fed: int, waiting: int) -> int:
        return Progress(100, fed, 0, 0, waiting, 1, 0, 0).through

    assert through(fed=0, waiting=3) == 0
    assert through(fed=60, waiting=10) == 50
    assert through(fed=100, waiting=0) == 100
    assert through(fed=120, waiting=0) == 100

"""What tests of screening share."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from memcube_common.screening import ScreeningThreads


@pytest.fixture
def threads() -> Generator[ScreeningThreads]:
    """Threads of the test's own, ended with it."""
    threads = ScreeningThreads()
    yield threads
    threads.close()

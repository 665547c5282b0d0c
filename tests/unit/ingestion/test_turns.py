"""What is put off comes back in the order it was put off in, project by project, and not later than it may."""

from memcube_ingestion.turns import LONGEST_PAUSE, Returns


def test_each_comes_back_behind_those_before_it_and_no_project_behind_another() -> None:
    now = 100.0
    returns = Returns(clock=lambda: now)
    assert [returns.pause("slow", 2.0) for _ in range(3)] == [3.0, 5.0, 7.0]
    assert returns.pause("other", 0.5) == 1.5
    now += 4.0
    assert returns.pause("slow", 2.0) == 5.0
    now += 60.0
    assert returns.pause("slow", 2.0) == 3.0


def test_nothing_is_put_off_for_longer_than_the_longest_pause() -> None:
    returns = Returns(clock=lambda: 0.0)
    assert max(returns.pause("slow", 100.0) for _ in range(50)) == LONGEST_PAUSE

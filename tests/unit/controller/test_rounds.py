"""Rounds go on whatever happens to the clock (F8)."""

from __future__ import annotations

import pytest

from netwatch.controller.rounds import LONGEST, Rounds
from netwatch.model.times import SECOND

START = 1_700_000_000 * SECOND
HOUR = 3_600 * SECOND


@pytest.mark.parametrize(
    ("later", "due"),
    [
        pytest.param(SECOND, False, id="too early"),
        pytest.param(10 * SECOND, True, id="in time"),
        pytest.param(HOUR, True, id="set on by an hour"),
        pytest.param(-HOUR, True, id="set back by an hour"),
    ],
)
def test_what_is_due_is_not_put_off_by_a_clock(later: int, due: bool) -> None:
    rounds = Rounds()
    assert rounds.is_due("look", START, 10 * SECOND)
    assert rounds.is_due("look", START + later, 10 * SECOND) is due


def test_a_round_that_seemed_to_take_hours_is_not_paused_for_days() -> None:
    """The clock was set while it was under way."""
    rounds = Rounds()
    rounds.rest("look", START, 20 * HOUR)
    assert not rounds.is_due("look", START + LONGEST - 1, SECOND)
    assert rounds.is_due("look", START + LONGEST, SECOND)


def test_a_break_is_noticed_once() -> None:
    rounds = Rounds()
    times = (0, 1, 2, 3602, 3603, 3, 4, 20)
    broken = [rounds.broken(START + at * SECOND) for at in times]
    assert broken == [False, False, False, True, False, True, False, False]

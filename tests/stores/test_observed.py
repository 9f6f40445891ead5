"""When hosts were observed: what reports cover, over crashes and a clock that is set back."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.controller.history import History
from netwatch.graph.coverage import Span
from netwatch.model.report import Capture, Report
from netwatch.model.times import SECOND
from tests.unit.controller.samples import START

ALL = (0, 2**62)


def told(history: History, *parts: tuple[str, int, int], method: str = "tcx") -> None:
    """Reports of host a as (boot, begin, end), in seconds after START."""
    for number, (boot, begin, end) in enumerate(parts, start=1000 * len(history.spans(*ALL))):
        started, ended = START + begin * SECOND, START + end * SECOND
        report = Report("a", boot, number, started, ended, capture=Capture(method))
        assert history.append(report, (), ended)


def spans(history: History) -> list[tuple[int, int]]:
    return [
        ((s.since - START) // SECOND, (s.until - START) // SECOND) for s in history.spans(*ALL)
    ]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([("x", 0, 1), ("x", 1, 2), ("x", 2, 90)], [(0, 90)], id="one boot"),
        pytest.param([("x", 0, 10), ("y", 12, 20)], [(0, 10), (12, 20)], id="a second boot"),
        pytest.param([("x", 0, 10), ("x", 200, 210)], [(0, 10), (200, 210)], id="some lost"),
        pytest.param([("x", 0, 10), ("x", -3590, -3589)], [(0, 10)], id="a clock set back"),
    ],
)
def test_reports_without_a_break_are_one_span(
    tmp_path: Path, parts: list[tuple[str, int, int]], expected: list[tuple[int, int]]
) -> None:
    history = History(tmp_path / "history.db")
    told(history, *parts)
    assert spans(history) == expected
    history.close()
    again = History(tmp_path / "history.db")
    assert spans(again) == expected
    again.close()


def test_a_killed_controller_forgets_no_more_than_it_joins_again(tmp_path: Path) -> None:
    """What was not written is covered by the next report of the same boot."""
    history = History(tmp_path / "history.db")
    told(history, ("x", 0, 1), ("x", 1, 9))
    with history._read() as cursor:
        assert cursor.execute("select until from observed").fetchall() == [(START + SECOND,)]
    history._connection.close()  # no close(): as if killed
    again = History(tmp_path / "history.db")
    told(again, ("x", 9, 31))
    assert spans(again) == [(0, 31)]
    again.close()


def test_a_host_that_can_not_capture_observes_nothing(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    told(history, ("x", 0, 1), method="none")
    assert spans(history) == []
    history.close()


def test_of_a_host_that_is_away_the_last_span_before_is_told(tmp_path: Path) -> None:
    """Or nobody would know that it is missing."""
    history = History(tmp_path / "history.db")
    told(history, ("x", 0, 10), ("y", 20, 30))
    later = START + 40 * SECOND
    found = history.spans(later, later + SECOND)
    assert found == [Span("a", START + 20 * SECOND, START + 30 * SECOND)]
    history.close()

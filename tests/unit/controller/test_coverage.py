"""What the API may say of a time: gaps of a period, and pieces of it."""

from __future__ import annotations

from pathlib import Path

from netwatch.controller.coverage import Coverage
from netwatch.controller.history import History
from netwatch.graph.coverage import Slot, Span
from netwatch.model.report import Capture, Report
from netwatch.model.times import SECOND
from tests.unit.controller.samples import START


def test_a_host_is_missed_once_it_is_silent(tmp_path: Path) -> None:
    """Its next report may be under way: the last minute is no gap, until it is one."""
    history, clock = History(tmp_path / "history.db"), [START + 30 * SECOND]
    report = Report("a", "x", 1, START - 100 * SECOND, START, capture=Capture("tcx"))
    history.append(report, (), START)
    coverage = Coverage(history, lambda: clock[0])
    period = START - 50 * SECOND, START + 3_600 * SECOND

    assert coverage.gaps(*period) == ()
    assert coverage.first() == START - 100 * SECOND

    clock[0] = START + 300 * SECOND
    assert coverage.gaps(*period) == (Span("a", START, START + 300 * SECOND),)
    assert coverage.gaps(START, None) == ()
    slots = coverage.slots(START - 300 * SECOND, START + 600 * SECOND, 3)
    assert slots == (Slot(1, 1), Slot(0, 1), Slot(0, 0))
    history.close()


def test_an_agent_that_was_started_anew_leaves_its_gap(tmp_path: Path) -> None:
    """Seconds ago, too: only the last span of a host may still be going on."""
    history = History(tmp_path / "history.db")
    for boot, begin, end in (("x", -40, -30), ("y", -20, 0)):
        started, ended = START + begin * SECOND, START + end * SECOND
        history.append(Report("a", boot, 1, started, ended, capture=Capture("tcx")), (), START)
    found = Coverage(history, lambda: START + SECOND).gaps(START - 40 * SECOND, START + SECOND)
    assert found == (Span("a", START - 30 * SECOND, START - 20 * SECOND),)
    history.close()

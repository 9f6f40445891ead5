"""One active alert per cause, whatever the detectors say how often."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from netwatch.controller import alerts
from netwatch.model.finding import Alert, Finding
from netwatch.model.times import SECOND
from tests.unit.controller.samples import START

FOUND = Finding("undocumented-port", "b/shop/db:tcp/9999", "medium", "title", "advice")


def step(active: dict[alerts.Cause, Alert], *findings: Finding, after_s: int = 0) -> alerts.Step:
    numbers = count(1)
    return alerts.step(
        active, findings, START + after_s * SECOND, new_id=lambda: f"al_{next(numbers)}"
    )


def test_two_findings_of_one_cause_are_one_alert() -> None:
    first = step({}, FOUND, replace(FOUND, title="the same, said otherwise"))
    assert len(first.opened) == len(first.active) == 1


def test_evidence_is_refreshed_but_not_written_all_the_time() -> None:
    first = step({}, FOUND)
    more = replace(FOUND, evidence=({"connections": 2},))
    assert step(first.active, more, after_s=2).updated == ()
    (updated,) = step(first.active, more, after_s=40).updated
    assert (updated.finding, updated.opened) == (more, START)


@pytest.mark.parametrize("change", [{"severity": "critical"}, {"title": "worse"}])
def test_what_matters_is_written_at_once(change: dict[str, str]) -> None:
    first = step({}, FOUND)
    assert len(step(first.active, replace(FOUND, **change), after_s=1).updated) == 1


def test_acknowledged_remains_so_while_the_cause_lasts() -> None:
    (alert,) = step({}, FOUND).opened
    active = {alerts.cause_of(FOUND): replace(alert, state="acknowledged")}
    (updated,) = step(active, FOUND, after_s=40).updated
    assert updated.state == "acknowledged"


def test_without_a_finding_it_is_resolved_once() -> None:
    second = step(step({}, FOUND).active, after_s=5)
    assert [(a.state, a.resolved) for a in second.resolved] == [("resolved", START + 5 * SECOND)]
    assert step(second.active, after_s=6).resolved == ()


def test_a_storm_is_cut_and_counted_and_resolves_nothing_that_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alerts, "ACTIVE_LIMIT", 3)
    storm = [replace(FOUND, subject=f"s{n}") for n in range(5)]
    first = step({}, *storm)
    assert (len(first.active), first.dropped) == (3, 2)
    second = step(first.active, *reversed(storm))
    assert (second.opened, second.resolved, second.dropped) == ((), (), 2)

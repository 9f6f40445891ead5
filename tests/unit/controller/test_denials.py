"""Denials that hosts report: summed by minute, forgotten, bounded, and only of the host itself."""

from __future__ import annotations

from dataclasses import replace

from netwatch.controller.denials import KEPT, MINUTE, Denials
from netwatch.model.denial import Denial
from netwatch.model.report import Report

NOW = 1_000 * MINUTE
DENIAL = Denial("a/x/web", "a/x/api", "tcp", 80, "denied", count=3, first=NOW, last=NOW)


def report(*denials: Denial, host: str = "a") -> Report:
    return Report(host, "boot", 0, NOW, NOW, denials=denials)


def test_one_minute_is_one_sum_and_two_are_two() -> None:
    kept = Denials()
    kept.learn(report(DENIAL, replace(DENIAL, first=NOW + 1, last=NOW + 2)))
    kept.learn(report(replace(DENIAL, first=NOW + MINUTE, last=NOW + MINUTE)))
    told = [(each.count, each.first, each.last) for each in kept.recent(NOW)]
    assert told == [(6, NOW, NOW + 2), (3, NOW + MINUTE, NOW + MINUTE)]


def test_old_ones_are_forgotten() -> None:
    kept = Denials()
    kept.learn(report(DENIAL))
    assert kept.recent(NOW + KEPT - 1)
    assert not kept.recent(NOW + KEPT)


def test_a_host_can_not_speak_of_others() -> None:
    """One end must be the host's own: a stolen token of b says nothing of a's workloads."""
    kept = Denials()
    kept.learn(report(DENIAL, replace(DENIAL, source="host:b"), host="b"))
    assert [each.source for each in kept.recent(NOW)] == ["host:b"]
    assert kept.dropped == 3


def test_a_port_scan_is_bounded_and_the_rest_counted() -> None:
    kept = Denials(room=100)
    kept.learn(report(*(replace(DENIAL, port=port) for port in range(102))))
    assert (len(kept.recent(NOW)), kept.dropped) == (100, 6)

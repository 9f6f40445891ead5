"""One round of the agent: what goes in by source and sensor comes out as a report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from netwatch.agent.loop import Agent
from netwatch.capture.sensor import Batch, Payload
from netwatch.model.flow import Flow
from netwatch.model.report import Capture, Enforcement, Report
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Interface, Workload
from tests.unit.agent.rows import SECOND, START, entries, row

WEB, DB = "198.18.0.2", "198.18.0.3"


def workload(name: str, address: str, index: int) -> Workload:
    link = (Interface(f"v{index}", index),)
    return Workload("a", "shop", name, "lab", addresses=(address,), interfaces=link)


HERE = Snapshot("a", (workload("web", WEB, 7), workload("db", DB, 8)), addresses=("192.0.2.1",))


class Source:
    """Knows what it is told."""

    def __init__(self) -> None:
        self.now = HERE
        self.closed = False

    def start(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def snapshot(self) -> Snapshot:
        return self.now

    def close(self) -> None:
        self.closed = True


class Sensor:
    """Sees what it is given, and remembers what it was attached to."""

    def __init__(self) -> None:
        self.batch = Batch(entries())
        self.watched: list[list[int]] = []
        self.done: list[Payload] = []
        self.closed = False

    def watch(self, workloads: Sequence[int], uplinks: Sequence[int]) -> None:
        self.watched.append([*workloads, *uplinks])

    def read(self) -> Batch:
        return self.batch

    def classified(self, payload: Payload) -> None:
        self.done.append(payload)

    def state(self) -> Capture:
        return Capture("tcx")

    def close(self) -> None:
        self.closed = True


def denying(snapshot: Snapshot, now: int) -> tuple[Enforcement, Callable[[Flow], tuple[str, str]]]:
    """A judge that denies everything, under a ruleset called d1."""
    return Enforcement(digest="d1"), lambda flow: ("deny", "allow")


def agent(source: Source, sensor: Sensor, sent: list[Report]) -> Agent:
    made = Agent(source, sensor, sent.append, denying, interval_s=1.0)
    made.start(START)
    return made


def test_a_round_reports_what_was_seen_known_and_enforced() -> None:
    """Workloads, flows with both verdicts, capture and enforcement are in one report."""
    sensor, sent = Sensor(), list[Report]()
    one = agent(Source(), sensor, sent)
    sensor.batch = Batch(entries(row((WEB, 40000), (DB, 5432))))
    one.tick(START + 3 * SECOND)
    (report,) = sent

    assert [w.name for w in report.workloads] == ["web", "db"]
    assert [(f.server.workload, f.verdict, f.staged) for f in report.flows] == [
        ("a/shop/db", "deny", "allow")
    ]
    assert (report.capture.method, report.enforcement.digest) == ("tcx", "d1")


def test_reports_are_numbered_without_gaps_under_one_boot() -> None:
    """(host, boot, sequence) names a report, so that a retry is harmless."""
    sent: list[Report] = []
    one = agent(Source(), Sensor(), sent)
    for n in range(3):
        one.tick(START + n * SECOND)

    assert [r.sequence for r in sent] == [0, 1, 2]
    assert len({r.boot for r in sent}) == 1


def test_losses_are_told_as_increase() -> None:
    """The sensor counts for ever; a report holds what was lost since the one before."""
    sensor, sent = Sensor(), list[Report]()
    one = agent(Source(), sensor, sent)
    for total in (5, 5, 7):
        sensor.batch = Batch(entries(), losses=(("ring-full", total),))
        one.tick(START)

    assert [dict(r.losses).get("ring-full", 0) for r in sent] == [5, 0, 2]


def test_a_new_workload_is_watched_at_the_next_look() -> None:
    """What the source tells is what the sensor is attached to."""
    source, sensor = Source(), Sensor()
    one = agent(source, sensor, [])
    source.now = Snapshot("a", (*HERE.workloads, workload("new", "198.18.0.9", 9)))
    one.tick(START)

    assert (sensor.watched[0], sensor.watched[-1]) == ([7, 8], [7, 8, 9])


def test_who_comes_is_told_at_once_by_the_thread_that_met_him() -> None:
    """A container's start waits for no round: its members are asked for before anything else."""
    source, told = Source(), list[tuple[int, int]]()

    def at_once(latest: Callable[[], Snapshot], now: int) -> None:
        told.append((threading.get_ident(), len(latest().workloads)))

    one = Agent(source, Sensor(), print, denying, interval_s=1.0, at_once=at_once)
    one.start(START)
    source.now = Snapshot("a", (*HERE.workloads, workload("new", "198.18.0.9", 9)))
    thread = threading.Thread(target=source.changed)
    thread.start()
    thread.join()
    assert told == [(thread.ident, 3)]


def test_closing_detaches_and_stops_watching() -> None:
    """Nothing stays attached."""
    source, sensor = Source(), Sensor()
    agent(source, sensor, []).close()

    assert (source.closed, sensor.closed) == (True, True)


@pytest.mark.parametrize("jump", [pytest.param(3_600, id="on"), pytest.param(-3_600, id="back")])
def test_no_report_lasts_less_than_no_time(jump: int) -> None:
    """A clock that is set by an hour between two rounds makes no duration negative (F8)."""
    sent: list[Report] = []
    one = agent(Source(), Sensor(), sent)
    for moment in (1, 2, 3 + jump, 4 + jump):
        one.tick(START + moment * SECOND)

    assert all(r.started <= r.ended for r in sent)
    assert [r.ended - r.started for r in sent][-1] == SECOND

"""The agent's one loop: discover, attach, read, fold, report. The agent's only clock."""

from __future__ import annotations

import gc
import logging
import math
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from netwatch import __version__
from netwatch.agent.attribution import Attribution
from netwatch.agent.conditions import Conditions
from netwatch.agent.denials import Ear
from netwatch.agent.departed import Presence
from netwatch.agent.flowtable import FlowTable
from netwatch.agent.listeners import listening
from netwatch.agent.names import Names, names_of
from netwatch.agent.proof import Prover
from netwatch.agent.ways import Ways
from netwatch.capture.sensor import Sensor
from netwatch.discover.links import carriers
from netwatch.discover.source import Source
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.link import Links
from netwatch.model.report import Capture, Enforcement, Report
from netwatch.model.snapshot import Snapshot

log = logging.getLogger("netwatch.agent")

SETTLE_S = 0.1  # after the last change the rules are read back: that takes 20 ms of two programs
SWITCH_S = 0.0005  # a thread of the source that a container waits for gets its turn so soon
LISTENERS_EVERY = 5  # ticks; to ask for those of 200 workloads takes about 90 ms


class Uplink(Protocol):
    """Where reports go: over HTTPS, or straight into a controller of this process."""

    def __call__(self, report: Report) -> object:
        """Take a report; never blocks for the network."""


Judge = Callable[[Flow], tuple[str | None, str | None]]
Enforced = Callable[[Snapshot, int], tuple[Enforcement, Judge]]
AtOnce = Callable[[Callable[[], Snapshot], int], None]


class Agent:
    """One host's agent. `tick` does one round; `run` repeats it until `stop`."""

    def __init__(
        self,
        source: Source,
        sensor: Sensor,
        uplink: Uplink,
        enforced: Enforced,
        *,
        interval_s: float,
        more_losses: Callable[[], tuple[tuple[str, int], ...]] = lambda: (),
        ear: Ear | None = None,
        attribution: Attribution | None = None,
        ways: Ways | None = None,
        prover: Prover | None = None,
        closing: Callable[[], None] = lambda: None,
        conditions: Conditions | None = None,
        at_once: AtOnce = lambda latest, now: None,
    ) -> None:
        """`at_once` is told of each change by the thread that met it, before all others."""
        self._source = source
        self._sensor = sensor
        self._uplink = uplink
        self._enforced = enforced
        self._interval_s = interval_s
        self._more_losses = more_losses
        self._ear = ear
        self._attribution = attribution
        self._ways = ways
        self._prover = prover
        self._closing = closing
        self._conditions = conditions
        self._at_once = at_once
        self._boot = secrets.token_hex(8)
        self._sequence = 0
        self._told_losses: dict[str, int] = {}
        self._listening: dict[str, frozenset[tuple[str, int]]] = {}
        self._table: FlowTable | None = None
        self._presence = Presence()
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._started = 0
        self._failed = 0
        self._problem: str | None = None

    def start(self, now: int) -> None:
        """Find the workloads and attach to them."""
        self._started = now
        self._source.start(self._notice)
        snapshot = self._known(now)
        self._table = FlowTable(snapshot.host)
        self._follow(snapshot, now)

    def tick(self, now: int) -> Report:
        """One round at the time `now`; the report has been handed to the uplink."""
        assert self._table is not None, "start() comes first"
        snapshot = self._known(now)
        enforcement, judge = self._follow(snapshot, now)
        if self._sequence % LISTENERS_EVERY == 0:
            self._listening = _listening(snapshot)
        batch = self._sensor.read()
        if self._ways:
            self._ways.see(batch.entries, now)
        names = self._names(snapshot, now)
        flows = self._table.fold(batch, names, now)
        if self._attribution:
            self._attribution.learn(batch.payloads, names, now)
            flows = self._attribution(flows, names, now)
        for connection in self._table.finished():
            self._sensor.classified(connection)
        judged = tuple(_judged(flow, judge) for flow in flows)
        learned = self._attribution.news() if self._attribution else ()
        if self._conditions:
            self._conditions.take(judged, learned, now)
        failed = ("rounds failed", self._failed)
        cumulative = (*batch.losses, *self._table.losses(), *self._more_losses(), failed)
        if self._ear:
            cumulative = (*cumulative, *self._ear.losses())
        if self._attribution:
            cumulative = (*cumulative, *self._attribution.losses())
        if self._conditions:
            cumulative = (*cumulative, *self._conditions.losses())
        report = Report(
            host=snapshot.host,
            boot=self._boot,
            sequence=self._sequence,
            started=min(self._started, now),  # a clock may have been set back
            ended=now,
            workloads=snapshot.workloads,
            flows=judged,
            losses=self._increase(dict(cumulative)),
            capture=_with_problem(self._sensor.state(), snapshot.problem),
            enforcement=self._proven(enforcement, flows, snapshot, now),
            addresses=snapshot.addresses,
            version=__version__,
            denials=self._ear(snapshot, now) if self._ear else (),
            names=learned,
            links=self._ways.links if self._ways else Links(),
        )
        self._sequence += 1
        self._started = now
        self._uplink(report)
        return report

    def run(self, *, beat: Callable[[], None] = lambda: None) -> None:
        """Tick every interval, and attend at once to a new workload. `beat` after each."""
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # looking through the libraries again would stop every thread for 60 ms
        due = time.monotonic()
        settled = math.inf
        while not self._stopping.is_set():
            try:
                if time.monotonic() >= due:
                    due = max(due + self._interval_s, time.monotonic())
                    self.tick(time.time_ns())
                elif self._changed.is_set() or time.monotonic() >= settled:
                    settled = time.monotonic() + SETTLE_S if self._changed.is_set() else math.inf
                    self._changed.clear()
                    now = time.time_ns()
                    self._follow(self._known(now), now)
            except (NetwatchError, OSError) as error:  # the next round may do better
                self._failed += 1
                log.error("a round of the agent failed: %s", error)
            beat()
            self._changed.wait(max(0.0, min(due, settled) - time.monotonic()))
        gc.unfreeze()  # what DuckDB's binding can not free at the end it calls leaked, on stderr

    def wake(self) -> None:
        """Attend soon: workloads or rules changed; from any thread."""
        self._changed.set()

    def stop(self) -> None:
        """End `run` soon; from any thread."""
        self._stopping.set()
        self._changed.set()

    def close(self) -> None:
        """Detach and forget. What enforcement put into the kernel stays."""
        self._closing()
        if self._conditions:
            self._conditions.close()
        if self._prover:
            self._prover.close()
        if self._ear:
            self._ear.close()
        self._sensor.close()
        self._source.close()

    def _notice(self) -> None:
        """The source has news; by a thread of its own, so that nobody's stay is too short."""
        now = time.time_ns()
        self._at_once(self._source.snapshot, now)
        self._presence.note(self._source.snapshot(), now)
        self._changed.set()

    def _known(self, now: int) -> Snapshot:
        """The snapshot of the source, with what is known of the ways out."""
        snapshot = self._source.snapshot()
        return self._ways.look(snapshot, now) if self._ways else snapshot

    def _names(self, snapshot: Snapshot, now: int) -> Names:
        way = self._ways.link if self._ways else None
        probed = self._prover.probed(now) if self._prover else frozenset()
        return names_of(snapshot, self._listening, way, probed, self._presence.departed(now))

    def _proven(
        self, enforcement: Enforcement, flows: Sequence[Flow], snapshot: Snapshot, now: int
    ) -> Enforcement:
        return self._prover(enforcement, flows, snapshot, now) if self._prover else enforcement

    def _follow(self, snapshot: Snapshot, now: int) -> tuple[Enforcement, Judge]:
        """Enforce first, then watch: a workload may be unseen for a moment, never unguarded."""
        if snapshot.problem != self._problem and snapshot.problem:
            log.warning("%s", snapshot.problem)
        self._problem = snapshot.problem
        enforced = self._enforced(snapshot, now)
        if self._conditions:
            self._conditions.follow(snapshot)
        self._attach(snapshot)
        return enforced

    def _attach(self, snapshot: Snapshot) -> None:
        workloads = sorted({i.index for w in snapshot.workloads for i in w.interfaces})
        tunnels = self._ways.tunnels() if self._ways else ()
        parents = carriers(snapshot.networks, snapshot.uplinks)
        self._sensor.watch(workloads, _indexes((*snapshot.uplinks, *tunnels, *parents)))

    def _increase(self, cumulative: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        told, self._told_losses = self._told_losses, dict(cumulative)
        increase = ((reason, n - told.get(reason, 0)) for reason, n in cumulative.items())
        return tuple((reason, n) for reason, n in increase if n > 0)


def _with_problem(capture: Capture, problem: str | None) -> Capture:
    """What is not known of the workloads is not seen either: both reasons stand together."""
    told = [reason for reason in (problem, capture.problem) if reason]
    return replace(capture, problem="; ".join(told) or None)


def _indexes(names: tuple[str, ...]) -> list[int]:
    """Interface indexes in the agent's own namespace; an interface that is gone has none."""
    known = {name: index for index, name in socket.if_nameindex()}
    return sorted(known[name] for name in names if name in known)


def _listening(snapshot: Snapshot) -> dict[str, frozenset[tuple[str, int]]]:
    return {w.identity: listening(w.pid) for w in snapshot.workloads if w.pid}


def _judged(flow: Flow, judge: Judge) -> Flow:
    verdict, staged = judge(flow)
    return replace(flow, verdict=verdict, staged=staged)

"""The agent's half of enforcement: keeps the kernel true to what is applied, and names verdicts.

Called once a tick and after every change of the workloads. Where nothing is applied and nobody is
quarantined it costs a look at two files. Who is quarantined stays so with every new address, and
is released when the time is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from netwatch.agent.handout import Handout
from netwatch.agent.verdicts import judge_of
from netwatch.enforce import confirm, host, quarantine
from netwatch.enforce.cordon import may_talk
from netwatch.enforce.upkeep import refresh
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.report import Enforcement
from netwatch.model.snapshot import Quarantine, Snapshot
from netwatch.model.times import SECOND
from netwatch.policy.ir import Mode, Policy

log = logging.getLogger("netwatch.agent")

CHECK_EVERY = 5 * SECOND  # reading all rules back costs about 20 ms
Judge = Callable[[Flow], tuple[str | None, str | None]]


class Watchman:
    """Remembers the documents in force, the workloads they were compiled for, and the judge."""

    def __init__(self, handout: Handout | None = None) -> None:
        """`handout`: what a controller wants in force; without it the host decides alone."""
        self._handout = handout
        self._drafted: tuple[Policy, ...] | None = None
        self._stamp: tuple[int, int] | None = None
        self._list_stamp: tuple[int, int] | None = None
        self._held: tuple[Quarantine, ...] = ()
        self._applied: host.Applied | None = None
        self._snapshot: Snapshot | None = None
        self._judge: Judge | None = None
        self._checked = 0
        self._drift: tuple[str, ...] = ()
        self._problem: str | None = None
        self._list_problem: str | None = None

    def __call__(self, snapshot: Snapshot, now: int) -> tuple[Enforcement, Judge]:
        """The state of enforcement for the report, and the verdicts of flows."""
        snapshot = self._guarded(snapshot, now)
        if self._handout is not None:
            self._handout.settle(snapshot, now)
        changed = self._look(snapshot)
        if self._applied is None and snapshot.quarantined:
            self._restore(snapshot, now)
        elif self._applied is not None and (changed or now - self._checked >= CHECK_EVERY):
            self._keep(self._applied, snapshot, now, expected=changed)
        drafted = self._handout.drafted() if self._handout else None
        if changed or self._judge is None or drafted is not self._drafted:
            self._drafted = drafted
            judge = judge_of(self.documents(), snapshot, now, staged=drafted)
            self._judge = _with_quarantine(judge, snapshot)
        return self._state(snapshot), self._judge

    def documents(self) -> tuple[Policy, ...]:
        """The documents in force, the same object while they are the same."""
        return self._applied.policies if self._applied else ()

    def _guarded(self, snapshot: Snapshot, now: int) -> Snapshot:
        """The snapshot with who is quarantined; whoever's time is over is released first.

        A list that can not be read frees nobody: the last that could be read holds on.
        """
        stamp = _stamp(quarantine.place())
        held = quarantine.lasting(self._held, now=now)
        if stamp == self._list_stamp and held == self._held:
            return replace(snapshot, quarantined=held)
        try:
            for entry in quarantine.expire(snapshot, now=now):
                log.info("the time of %s's quarantine is over: it is released", entry.workload)
            self._held, self._list_problem = quarantine.quarantined(), None
            self._list_stamp = _stamp(quarantine.place())
        except NetwatchError as error:
            self._list_problem = error.message
        return replace(snapshot, quarantined=quarantine.lasting(self._held, now=now))

    def _look(self, snapshot: Snapshot) -> bool:
        """Whether documents or workloads differ from what was compiled last."""
        stamp = _stamp(host.folder() / "state.json")
        changed = stamp != self._stamp or snapshot != self._snapshot
        if stamp != self._stamp:
            try:
                self._applied, self._problem = host.applied(), None
            except NetwatchError as error:
                self._problem = error.message
            self._stamp = stamp
        self._snapshot = snapshot
        return changed

    def _keep(
        self, applied: host.Applied, snapshot: Snapshot, now: int, *, expected: bool
    ) -> None:
        self._checked = now
        try:
            found = refresh(applied, snapshot, now=now)
        except NetwatchError as error:
            self._problem = error.message
            self._checked = 0  # at the next tick again
            return
        self._problem = None
        if not expected:
            self._drift = found
            for sentence in found:
                log.warning("rules were changed by others and are mended: %s", sentence)

    def _restore(self, snapshot: Snapshot, now: int) -> None:
        """Somebody is quarantined and nothing of ours is in the kernel."""
        try:
            quarantine.settle(snapshot, now=now)
        except NetwatchError as error:
            self._list_problem = error.message
            return
        self._list_problem = None
        log.warning("the rules of the quarantine were gone and are mended")

    def _state(self, snapshot: Snapshot) -> Enforcement:
        handed = self._handout
        problem = self._problem or self._list_problem or (handed.problem if handed else None)
        mode = "enforce" if handed and handed.enforce else "observe"
        held = tuple(entry.workload for entry in snapshot.quarantined)
        if self._applied is None:
            return Enforcement(problem=problem, quarantined=held, mode=mode)
        return Enforcement(
            backend=self._applied.backend,
            digest=self._applied.digest,
            enforced=_titles(self._applied, Mode.ENFORCE),
            staged=_titles(self._applied, Mode.STAGE),
            drift=self._drift,
            problem=problem,
            quarantined=held,
            policies=self._applied.sha256 if self._applied.policies else None,
            mode=mode,
            pending=confirm.pending(),
        )


def _with_quarantine(judge: Judge, snapshot: Snapshot) -> Judge:
    """Quarantine is judged first (semantics: order of judgement)."""
    if not snapshot.quarantined:
        return judge
    may = may_talk(snapshot)

    def judged(flow: Flow) -> tuple[str | None, str | None]:
        if not may(flow.client.address, flow.server.address):
            return "deny", "deny"
        return judge(flow)

    return judged


def _titles(applied: host.Applied, mode: Mode) -> tuple[str, ...]:
    return tuple(p.title for p in applied.policies if p.mode is mode)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino

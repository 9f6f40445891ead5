"""The agent's half of enforcement: keeps the kernel true to what is applied, and names verdicts.

Called once a tick and after every change of the workloads. Where nothing is applied it costs a
look at one file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from netwatch.agent.verdicts import judge_of
from netwatch.enforce import host
from netwatch.enforce.upkeep import refresh
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.report import Enforcement
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.policy.ir import Mode

log = logging.getLogger("netwatch.agent")

CHECK_EVERY = 5 * SECOND  # reading all rules back costs about 20 ms
Judge = Callable[[Flow], tuple[str | None, str | None]]


class Watchman:
    """Remembers the documents in force, the workloads they were compiled for, and the judge."""

    def __init__(self) -> None:
        self._stamp: tuple[int, int] | None = None
        self._applied: host.Applied | None = None
        self._snapshot: Snapshot | None = None
        self._judge: Judge | None = None
        self._checked = 0
        self._drift: tuple[str, ...] = ()
        self._problem: str | None = None

    def __call__(self, snapshot: Snapshot, now: int) -> tuple[Enforcement, Judge]:
        """The state of enforcement for the report, and the verdicts of flows."""
        changed = self._look(snapshot)
        if self._applied is not None and (changed or now - self._checked >= CHECK_EVERY):
            self._keep(self._applied, snapshot, now, expected=changed)
        if changed or self._judge is None:
            policies = self._applied.policies if self._applied else ()
            self._judge = judge_of(policies, snapshot, now)
        return self._state(), self._judge

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

    def _state(self) -> Enforcement:
        if self._applied is None:
            return Enforcement(problem=self._problem)
        return Enforcement(
            backend=self._applied.backend,
            digest=self._applied.digest,
            enforced=_titles(self._applied, Mode.ENFORCE),
            staged=_titles(self._applied, Mode.STAGE),
            drift=self._drift,
            problem=self._problem,
        )


def _titles(applied: host.Applied, mode: Mode) -> tuple[str, ...]:
    return tuple(p.title for p in applied.policies if p.mode is mode)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino

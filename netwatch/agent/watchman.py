"""The agent's half of enforcement: keeps the kernel true to what is applied, and names verdicts.

Called once a tick, after every change of the workloads, and when the kernel tells that somebody
wrote rules. Where nothing is applied and nobody is quarantined it costs a look at two files. Who
is quarantined stays so with every new address, and is released when the time is over.

A container's start can not wait for a round: the source's own thread says `at_once` who came, and
the members for him are written there. The round reads back, when no more changes come.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from netwatch.agent.handout import Handout
from netwatch.agent.verdicts import judge_of
from netwatch.enforce import confirm, gate, host, named, quarantine, reboot, standing, upkeep
from netwatch.enforce.alarm import Alarm, listen
from netwatch.enforce.conditions import narrowed
from netwatch.enforce.cordon import may_talk
from netwatch.enforce.kernel import Busy
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.upkeep import Kept
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.repair import Repair
from netwatch.model.report import Enforcement
from netwatch.model.snapshot import Quarantine, Snapshot
from netwatch.model.times import SECOND, passed
from netwatch.policy.ir import Mode, Policy

log = logging.getLogger("netwatch.agent")

CHECK_EVERY = 5 * SECOND  # reading all rules back costs about 20 ms
QUIET, LATE = SECOND // 12, SECOND  # so long after a change, the last and the first, it waits
AGAIN = 10 * SECOND  # after failures: a lock that is held, a program that hangs, cost that too
TOLD_FOR = 900 * SECOND  # how long a repair stays in reports, and so its alert open
MAX_REPAIRS, MAX_DIFFERENCES = 8, 20
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
        self._alarm: Alarm | None = None
        self._checked = 0
        self._again = 0
        self._writing = threading.Lock()  # what the kernel holds, and `_kept`, which says it
        self._kept: Kept | None = None
        self._newest: Snapshot | None = None
        self._told: Ruleset | None = None
        self._digest = ""
        self._right = 0
        self._by: set[str] = set()
        self._moved_at = self._since = 0  # last and first change that was not read back
        self._repairs: deque[Repair] = deque(maxlen=MAX_REPAIRS)
        self._revived = False
        self._drift: tuple[str, ...] = ()
        self._problem: str | None = None
        self._list_problem: str | None = None

    def __call__(self, snapshot: Snapshot, now: int) -> tuple[Enforcement, Judge]:
        """The state of enforcement for the report, and the verdicts of flows."""
        self._revive(snapshot, now)
        snapshot = self._guarded(named.dressed(snapshot, now=now), now)
        if self._handout is not None:
            self._handout.settle(snapshot, now)
        snapshot, changed = self._look(snapshot)
        by = self._alarm.heard() if self._alarm else ()
        due = changed or bool(by) or passed(self._checked, now, CHECK_EVERY)
        if self._applied is None and snapshot.quarantined:
            self._restore(snapshot, now)
        elif self._applied is not None and due and passed(self._again - AGAIN, now, AGAIN):
            self._by |= {*by}
            self._keep(self._applied, snapshot, now, changed=changed)
        self._open_gate(snapshot)
        drafted = self._handout.drafted() if self._handout else None
        if changed or self._judge is None or drafted is not self._drafted:
            self._drafted = drafted
            judge = judge_of(self.documents(), snapshot, now, staged=drafted)
            self._judge = _with_quarantine(judge, snapshot)
        return self._state(snapshot, now), self._judge

    def at_once(self, latest: Callable[[], Snapshot], now: int) -> None:
        """Members for who came and who went, before anything else is done; from any thread.

        `latest` is the source's. Of all that is not the source's own what the last round knew
        holds. Whatever stands in the way is left to the next round.
        """
        with self._writing:
            self._newest = latest()
            kept, applied = self._kept, self._applied
            if kept is None or applied is None or self._newest.problem or not applied.whole:
                return
            if kept.snapshot.quarantined != quarantine.lasting(self._held, now=now):
                return
            with suppress(NetwatchError, OSError):
                self._stir(now)
                self._checked = 0
                self._follow(applied, kept, kept.snapshot, now)

    def _follow(
        self, applied: host.Applied, kept: Kept, snapshot: Snapshot, now: int
    ) -> Kept | None:
        """What the kernel holds once the members are as the newest snapshot wants them; None if
        that takes more."""
        found = upkeep.follow(
            applied, self._updated(snapshot), now=now, last=kept, still=self._unchanged
        )
        self._kept = found or kept
        return found

    def _updated(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with whoever came meanwhile: nobody is taken back because a round began
        before he came."""
        new = self._newest
        if new is None:
            return snapshot
        return replace(
            snapshot,
            workloads=new.workloads,
            networks=new.networks,
            neighbours=new.neighbours,
            namespaces=new.namespaces,
            addresses=new.addresses,
            problem=new.problem,
        )

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` when somebody writes rules; legacy tables and sets are only read again."""
        self._alarm = listen(wake)

    def close(self) -> None:
        """Listen no more; what is in the kernel stays."""
        if self._alarm:
            self._alarm.close()
            self._alarm = None

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

    def _revive(self, snapshot: Snapshot, now: int) -> None:
        """Once, for an agent that starts without `netwatch host restore` before it."""
        if self._revived or snapshot.problem:
            return
        self._revived = True
        try:
            if standing.is_host() and host.applied() is None:
                reboot.restore(quarantine.marked(snapshot, now=now), now=now)
        except (NetwatchError, OSError) as error:
            log.error("what was in force before the reboot does not come back: %s", error)

    def _open_gate(self, snapshot: Snapshot) -> None:
        """What was shut at boot is opened once the rules are there."""
        if snapshot.problem or self._problem or self._list_problem or not gate.is_shut():
            return
        if self._applied is None or self._kept is not None:
            with suppress(NetwatchError):  # at the next round again
                gate.open_gate()

    def _look(self, snapshot: Snapshot) -> tuple[Snapshot, bool]:
        """The snapshot, less names that no document speaks of, and whether it or the documents
        differ from what was compiled last."""
        stamp = _stamp(host.folder() / "state.json")
        fresh = stamp != self._stamp
        with self._writing:
            if fresh or snapshot.quarantined != self._quarantined():
                self._kept = None  # whoever changed that has changed the rules as well
            if fresh:
                self._again = 0
                try:
                    self._applied, self._problem = host.applied(), None
                except NetwatchError as error:
                    self._problem = error.message
                self._stamp = stamp
        drafted = self._handout.drafted() if self._handout else None
        snapshot = narrowed(snapshot, (*self.documents(), *(drafted or ())))
        changed = fresh or snapshot != self._snapshot
        self._snapshot = snapshot
        return snapshot, changed

    def _quarantined(self) -> tuple[Quarantine, ...]:
        return self._snapshot.quarantined if self._snapshot else ()

    def _unchanged(self) -> bool:
        """Whether documents and list are still those that were read."""
        stamps = _stamp(host.folder() / "state.json"), _stamp(quarantine.place())
        return stamps == (self._stamp, self._list_stamp) or self._list_problem is not None

    def _keep(
        self,
        applied: host.Applied,
        snapshot: Snapshot,
        now: int,
        *,
        changed: bool,
    ) -> None:
        self._checked = now
        try:
            if not applied.whole and host.heal():
                log.warning("the documents in /run were damaged: taken from the copy on disk")
                self._stamp = None
                return
            before, kept = self._kept, self._moved(applied, snapshot, now, changed=changed)
            within = self._inside(kept, applied, now) if kept else ()
            if within and kept == before:
                self._repaired(within, now)
            if kept is not None:
                self._settle(kept, applied, now)
            if kept is not None and self._early(now):
                self._checked = 0
            elif kept is None or not self._proven(kept, applied, now):
                self._mend(applied, snapshot, now)
        except Busy:
            self._checked = 0  # at the next tick again
        except OSError as error:  # what was read vanished meanwhile
            log.warning("a look at the rules was cut short: %s", error)
            self._checked = 0
        except NetwatchError as error:
            if error.message != self._problem:
                log.error("the rules could not be kept as they should be: %s", error)
            # Once is a race with who is changing the rules right now: it is tried again at once.
            self._again = now + (AGAIN if self._problem else SECOND)
            self._problem, self._checked = error.message, 0

    def _early(self, now: int) -> bool:
        """Whether more may change at once. What is heard then may have been ourselves: the kernel
        names threads, and by the numbers of the first pid namespace."""
        return not (passed(self._moved_at, now, QUIET) or passed(self._since, now, LATE))

    def _moved(
        self, applied: host.Applied, snapshot: Snapshot, now: int, *, changed: bool
    ) -> Kept | None:
        """What the kernel holds, if that took no more than members."""
        with self._writing:
            snapshot = self._updated(snapshot)
            if self._kept is None or snapshot.problem or not applied.whole:
                return None
            if changed:
                self._stir(now)
            return self._follow(applied, self._kept, snapshot, now)

    def _stir(self, now: int) -> None:
        self._moved_at = now
        self._since = self._since or now

    def _inside(self, kept: Kept, applied: host.Applied, now: int) -> tuple[str, ...]:
        with self._writing:
            return upkeep.settle_inside(kept, applied, now=now)

    def _settle(self, kept: Kept, applied: host.Applied, now: int) -> None:
        """End the sessions that new members forbid, unless there are newer ones already."""
        if kept.ruleset == self._told:
            return
        escaped = upkeep.too_early(kept, applied, now=now)
        with self._writing:
            if self._kept is kept:
                upkeep.settle(kept, escaped, still=self._unchanged)
                self._note(kept)

    def _proven(self, kept: Kept, applied: host.Applied, now: int) -> bool:
        """Whether the kernel holds what we put there; no container's start waits for that.

        True also where there is no telling, because more was put there meanwhile.
        """
        true = upkeep.holds(kept, applied.backend)
        with self._writing:
            if self._kept is not kept:
                self._checked = 0  # at the next round
                return True
        if true:
            self._problem, self._drift = None, ()
            self._right, self._since, self._by = now, 0, set()
        return true

    def _mend(self, applied: host.Applied, snapshot: Snapshot, now: int) -> None:
        """Whatever it takes, while nobody else writes."""
        with self._writing:
            found = upkeep.look(
                applied, self._updated(snapshot), now=now, last=self._kept, still=self._unchanged
            )
            self._kept = found
        self._problem = None
        if snapshot.problem:
            self._checked = 0  # while it does not answer, each time
        if found is None:
            return
        self._drift = found.foreign
        if found.foreign:
            self._repaired(found.foreign, now)
        self._note(found)
        self._right, self._since, self._by = now, 0, set()

    def _note(self, kept: Kept) -> None:
        if kept.ruleset is not self._told:
            self._told, self._digest = kept.ruleset, kept.ruleset.digest

    def _repaired(self, differences: tuple[str, ...], now: int) -> None:
        by = tuple(sorted(self._by))
        repair = Repair(self._right or now, now, differences[:MAX_DIFFERENCES], by)
        self._repairs.append(repair)
        for sentence in repair.differences:
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

    def _state(self, snapshot: Snapshot, now: int) -> Enforcement:
        handed = self._handout
        problem = self._problem or self._list_problem or (handed.problem if handed else None)
        mode = "enforce" if handed and handed.enforce else "observe"
        held = tuple(entry.workload for entry in snapshot.quarantined)
        while self._repairs and now - self._repairs[0].at > TOLD_FOR:
            self._repairs.popleft()
        if self._applied is None:
            return Enforcement(
                problem=problem, quarantined=held, mode=mode, repairs=tuple(self._repairs)
            )
        return Enforcement(
            backend=self._applied.backend,
            digest=self._digest or self._applied.digest,
            enforced=_titles(self._applied, Mode.ENFORCE),
            staged=_titles(self._applied, Mode.STAGE),
            drift=self._drift,
            problem=problem,
            quarantined=held,
            policies=self._applied.sha256 if self._applied.policies else None,
            mode=mode,
            pending=confirm.pending(),
            repairs=tuple(self._repairs),
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

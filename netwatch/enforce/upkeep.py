"""Keeps what is applied true while workloads come and go and others write rules.

The documents are those that `netwatch host apply` left; here they are never changed. When the
runtime does not answer the rules in the kernel stay as they are; only the addresses of workloads
that have ended are nobody's from then on, for the runtime may give them to others before it tells
(dockerd does, when it is restarted). What others changed is told apart from what must change
because time, workloads or documents did: it is what differs from the rules that we put there last.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from netwatch.enforce import (
    bridging,
    closures,
    counters,
    escapes,
    gate,
    host,
    indoors,
    kernel,
    sessions,
    standing,
)
from netwatch.enforce.begun import lenient
from netwatch.enforce.compile import compile
from netwatch.enforce.ends import host_addresses
from netwatch.enforce.linklocal import with_link_local
from netwatch.enforce.plan import Actual, Plan, desired_state, plan
from netwatch.enforce.regions import family_of
from netwatch.enforce.render import member_line
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.sets import NotApplied, restore_sets
from netwatch.kernel.namespaces import path_of_pid
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Kept:
    """What a look found: all that differed, and what of it others had changed, in sentences.

    `ruleset` and `snapshot` are what the kernel holds now: the next look is given them.
    """

    ruleset: Ruleset
    snapshot: Snapshot
    drift: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def refresh(applied: host.Applied, snapshot: Snapshot, *, now: int) -> tuple[str, ...]:
    """`look`, for whoever asks once: what differed."""
    found = look(applied, snapshot, now=now, last=None)
    return found.drift if found else ()


def look(
    applied: host.Applied,
    snapshot: Snapshot,
    *,
    now: int,
    last: Kept | None,
    still: Callable[[], bool] = lambda: True,
) -> Kept | None:
    """Bring the kernel to what the applied documents mean for this snapshot.

    None where the runtime does not answer: then only the dead are forgotten. `still`: whether
    documents and quarantine are what the caller believes, asked when nobody else can change them.
    Raises Busy while somebody else changes the rules, NotApplied if the kernel refuses, CapReached
    if a host can not hold it.
    """
    if snapshot.problem:
        with kernel.lock():
            _forget_dead(snapshot)
        return None
    if not applied.whole:
        raise NetwatchError(
            "the documents kept in /run/netwatch are not those that were applied",
            "the rules in the kernel stay as they are; netwatch host apply",
        )
    with kernel.lock():
        if not still():
            raise kernel.Busy("somebody else has just changed what is applied", "try again")
        snapshot = with_link_local(snapshot)
        ruleset = compile(applied.policies, snapshot, now=now)
        moved = last is not None and _move_members(last, ruleset, applied.backend)
        if moved:
            last = Kept(ruleset, snapshot)
        actual = kernel.read(applied.backend)
        todo = plan(ruleset, actual)
        switches = bridging.see(snapshot, enforcing=ruleset.enforcing)
        if moved or not todo.empty:
            begun = lenient(ruleset, applied.policies, snapshot, now=now)
            _mend(todo, begun, snapshot, applied.backend)
        within = indoors.settle(ruleset, snapshot, applied.backend, record=host.rooms(), now=now)
    same = last is not None and last.snapshot == snapshot and last.ruleset == ruleset
    foreign = (*_foreign(last, todo, actual, same=same), *(within if same else ()))
    if last is not None and last.ruleset.enforcing:
        foreign = (*switches, *foreign)
    return Kept(ruleset, snapshot, (*switches, *todo.drift, *within), foreign)


def _forget_dead(snapshot: Snapshot) -> None:
    """Whoever comes with the address of a workload that has ended is unknown."""
    dead = {
        w.key for w in snapshot.workloads if w.pid is not None and not path_of_pid(w.pid).exists()
    }
    gone = {a for w in snapshot.workloads if w.key in dead for a in w.addresses}
    kept = {a for w in snapshot.workloads if w.key not in dead for a in w.addresses}
    for address in sorted(gone - kept - {*host_addresses(snapshot)}):
        with suppress(NotApplied):  # no such set: nothing that enforces
            restore_sets([member_line("del", f"nw-known{family_of(address)}", address)])


def _move_members(last: Kept, ruleset: Ruleset, backend: str) -> bool:
    """Do what a container's start or end asks for before everything is read back (20 ms): members
    only, from what we put there last. Whether that was enough; then what still differs is foreign.
    """
    todo = plan(ruleset, desired_state(last.ruleset))
    if todo.empty or todo.rules:
        return False
    with suppress(NotApplied):  # others changed the sets: the look that follows mends them
        kernel.carry_out(todo, backend)
    return True


def _mend(todo: Plan, begun: Ruleset, snapshot: Snapshot, backend: str) -> None:
    counters.bank(todo, backend, host.folder())
    kernel.carry_out(todo, backend)
    found = sessions.forbidden(begun, host_addresses(snapshot))
    escapes.end(found, dict(begun.facts.names), host.folder())
    closures.keep(closures.bridges_of(begun))
    standing.keep(closed=gate.bridges_to_close(begun, snapshot))


def _foreign(last: Kept | None, todo: Plan, actual: Actual, *, same: bool) -> tuple[str, ...]:
    if last is None:
        return ()
    return todo.drift if same else plan(last.ruleset, actual).drift

"""Keeps what is applied true while workloads come and go and others write rules.

The documents are those that `netwatch host apply` left; here they are never changed. When the
runtime does not answer the rules stay as they were, and are put back where others take them away;
only the addresses of workloads that have ended are nobody's from then on, for the runtime may give
them to others before it tells (dockerd does, when it is restarted). What others changed is told
apart from what must change because time, workloads or documents did: it is what differs from the
rules that we put there last.

A container's start waits for `follow`, which only writes members. Reading back (20 ms) and what
concerns sessions come after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from netwatch.enforce import (
    bridging,
    closures,
    counters,
    draining,
    escapes,
    gate,
    host,
    indoors,
    kernel,
    sessions,
    sockets,
    standing,
)
from netwatch.enforce.begun import lenient
from netwatch.enforce.compile import Compiler, names_of
from netwatch.enforce.ends import host_addresses
from netwatch.enforce.linklocal import with_link_local
from netwatch.enforce.plan import Actual, Plan, moves, plan
from netwatch.enforce.regions import family_of
from netwatch.enforce.render import member_line
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.sessions import Session
from netwatch.enforce.sets import NotApplied, restore_sets
from netwatch.kernel.namespaces import path_of_pid
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Kept:
    """What a look found: all that differed, and what of it others had changed, in sentences.

    `ruleset` and `snapshot` are what the kernel holds now: the next look is given them, and
    `compiler` made the former of the latter.
    """

    ruleset: Ruleset
    snapshot: Snapshot
    compiler: Compiler = field(compare=False, repr=False)
    drift: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Escaped:
    """Sessions that are to be cut; `names` are workloads by address."""

    sessions: Sequence[Session]
    names: Mapping[str, str]


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

    Where the runtime does not answer, what was put there last is held, less who has ended; None
    where nothing was. `still`: whether documents and quarantine are what the caller believes,
    asked when nobody else can change them. Raises Busy while somebody else changes the rules,
    NotApplied if the kernel refuses, CapReached if a host can not hold it.
    """
    if snapshot.problem:
        with kernel.lock():
            _refuse_others(still)
            dead = _forget_dead(snapshot)
            return _held(last, dead, applied.backend) if last else None
    if not applied.whole:
        raise NetwatchError(
            "the documents kept in /run/netwatch are not those that were applied",
            "the rules in the kernel stay as they are; netwatch host apply",
        )
    with kernel.lock():
        _refuse_others(still)
        snapshot = with_link_local(_closed_as(snapshot, last))
        compiler = last.compiler if last else Compiler(applied.policies)
        ruleset = compiler(snapshot, now=now, told=False)
        begun = lenient(ruleset, applied.policies, snapshot, now=now)
        actual = kernel.read(applied.backend)
        change = plan(ruleset, actual)
        switches = bridging.see(snapshot, enforcing=ruleset.enforcing)
        if not change.empty:
            counters.bank(change, applied.backend, host.folder())
            kernel.carry_out(change, applied.backend)
            _settle(Kept(ruleset, snapshot, compiler), _escaped(snapshot, begun))
        within = _inside(ruleset, snapshot, applied.backend, now=now, begun=begun)
    same = last is not None and last.snapshot == snapshot and last.ruleset == ruleset
    foreign = (*_foreign(last, change, actual, same=same), *(within if same else ()))
    if last is not None and last.ruleset.enforcing:
        foreign = (*switches, *foreign)
    return Kept(ruleset, snapshot, compiler, (*switches, *change.drift, *within), foreign)


def follow(
    applied: host.Applied,
    snapshot: Snapshot,
    *,
    now: int,
    last: Kept,
    still: Callable[[], bool] = lambda: True,
) -> Kept | None:
    """Do what a container's start or end asks for: members only, from what was put there last.

    None, with nothing done, if it takes more than that. Nothing is read back: what the kernel then
    holds besides is foreign, and a `look` mends it. Raises as `look` does.
    """
    with kernel.lock():
        _refuse_others(still)
        snapshot = _linked(_closed_as(snapshot, last), last.snapshot)
        ruleset = last.compiler(snapshot, now=now, told=False)
        change = moves(last.ruleset, ruleset)
        if change is None:
            return None
        with suppress(NotApplied):  # others changed the sets
            kernel.carry_out(change, applied.backend)
    return Kept(ruleset, snapshot, last.compiler)


def holds(kept: Kept, backend: str) -> bool:
    """Whether the kernel has what was put there. Nobody is kept from writing meanwhile."""
    if bridging.unseen(kept.snapshot, enforcing=kept.ruleset.enforcing):
        return False
    return plan(kept.ruleset, kernel.read(backend)).empty


def too_early(kept: Kept, applied: host.Applied, *, now: int) -> Escaped:
    """The sessions that had begun before these rules denied them."""
    return _escaped(kept.snapshot, _begun(kept, applied, now=now))


def _begun(kept: Kept, applied: host.Applied, *, now: int) -> Ruleset:
    return lenient(kept.ruleset, applied.policies, kept.snapshot, now=now)


def _escaped(snapshot: Snapshot, begun: Ruleset) -> Escaped:
    found = draining.doomed(sessions.forbidden(begun, host_addresses(snapshot)))
    return Escaped(found, names_of(snapshot))


def settle(kept: Kept, escaped: Escaped, *, still: Callable[[], bool]) -> None:
    """What follows from new members: those sessions end, and what is to outlive us is written."""
    with kernel.lock():
        _refuse_others(still)
        _settle(kept, escaped)


def _settle(kept: Kept, escaped: Escaped) -> None:
    sockets.end({session.talk for session in escaped.sessions}, kept.snapshot.workloads)
    escapes.end(escaped.sessions, escaped.names, host.folder())
    closures.keep(closures.bridges_of(kept.ruleset))
    standing.keep(closed=gate.bridges_to_close(kept.ruleset, kept.snapshot))


def settle_inside(kept: Kept, applied: host.Applied, *, now: int) -> tuple[str, ...]:
    """Whoever has packets that this host does not see gets his share of the rules; the drift."""
    begun = _begun(kept, applied, now=now)
    with kernel.lock():
        return _inside(kept.ruleset, kept.snapshot, applied.backend, now=now, begun=begun)


def _inside(
    ruleset: Ruleset, snapshot: Snapshot, backend: str, *, now: int, begun: Ruleset
) -> tuple[str, ...]:
    return indoors.settle(ruleset, snapshot, backend, record=host.rooms(), now=now, begun=begun)


def _refuse_others(still: Callable[[], bool]) -> None:
    if not still():
        raise kernel.Busy("somebody else has just changed what is applied", "try again")


def _closed_as(snapshot: Snapshot, last: Kept | None) -> Snapshot:
    """A network stays closed although whoever it was closed for has gone; see `closures`."""
    bridges = closures.bridges_of(last.ruleset) if last else frozenset()
    if bridges.issubset(snapshot.closed):
        return snapshot
    return replace(snapshot, closed=tuple(sorted(bridges.union(snapshot.closed))))


def _linked(snapshot: Snapshot, last: Snapshot) -> Snapshot:
    """With what the kernel tells of links: asked again only if there are others than before."""
    if _links(snapshot) != _links(last):
        return with_link_local(snapshot)
    known = {(w.identity, w.runtime_id): w for w in last.workloads}
    return replace(
        snapshot,
        workloads=tuple(
            _as_before(w, known.get((w.identity, w.runtime_id))) for w in snapshot.workloads
        ),
    )


def _as_before(workload: Workload, before: Workload | None) -> Workload:
    if before is None:
        return workload
    found = replace(workload, interfaces=before.interfaces, link_local=before.link_local)
    return before if found == before else found


def _links(snapshot: Snapshot) -> list[tuple[object, ...]]:
    """Every link, and the processes that tell of those that are on no bridge."""
    return [
        (
            w.identity,
            w.runtime_id,
            [(link.name, link.index) for link in w.interfaces],
            None if any(link.bridge for link in w.interfaces) else w.pid,
        )
        for w in snapshot.workloads
        if w.interfaces or w.pid is not None
    ]


def _held(last: Kept, dead: frozenset[str], backend: str) -> Kept:
    """The kernel as it was left, whoever changed it: addresses that are given anew meanwhile have
    no more than they had without this."""
    ruleset = replace(
        last.ruleset,
        sets=tuple(
            replace(each, members=each.members - dead) if each.name == "nw-known" else each
            for each in last.ruleset.sets
        ),
    )
    change = plan(ruleset, kernel.read(backend))
    if not change.empty:
        counters.bank(change, backend, host.folder())
        kernel.carry_out(change, backend)
    return replace(last, ruleset=ruleset, drift=change.drift, foreign=change.drift)


def _forget_dead(snapshot: Snapshot) -> frozenset[str]:
    """Whoever comes with the address of a workload that has ended is unknown; those addresses."""
    ended = {
        w.key for w in snapshot.workloads if w.pid is not None and not path_of_pid(w.pid).exists()
    }
    gone = {a for w in snapshot.workloads if w.key in ended for a in w.addresses}
    kept = {a for w in snapshot.workloads if w.key not in ended for a in w.addresses}
    dead = frozenset(gone - kept - {*host_addresses(snapshot)})
    for address in sorted(dead):
        with suppress(NotApplied):  # no such set: nothing that enforces
            restore_sets([member_line("del", f"nw-known{family_of(address)}", address)])
    return dead


def _foreign(last: Kept | None, change: Plan, actual: Actual, *, same: bool) -> tuple[str, ...]:
    if last is None:
        return ()
    return change.drift if same else plan(last.ruleset, actual).drift

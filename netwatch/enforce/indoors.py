"""Rules inside workloads' own network namespaces, where the host's do not see their packets.

A namespace goes with its workload, and its rules with it: a restart is a new one, which the next
look fills. Which ones hold rules of ours is remembered by their inodes, so that they can be taken
away without a runtime that would tell of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from netwatch.enforce import draining, kernel, netlink, sessions, sockets
from netwatch.enforce.compile import compile
from netwatch.enforce.plan import plan
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.sets import NotApplied
from netwatch.enforce.share import hidden_from_host, share_of
from netwatch.enforce.sockets import Talk
from netwatch.kernel.namespaces import NAMED, NamespaceMissing, inside, path_of_pid
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload

TRIES = 3
PROC = Path("/proc")
NET_ADMIN = 12  # linux/capability.h
_BOUND = re.compile(r"^CapBnd:\s*([0-9a-f]+)$", re.MULTILINE)


def settle(
    ruleset: Ruleset,
    snapshot: Snapshot,
    backend: str,
    *,
    record: Path,
    now: int,
    begun: Ruleset | None = None,
) -> tuple[str, ...]:
    """Give every workload that needs it its share, take it from who no longer does; the drift.

    Live sessions that `begun` forbids (see `begun.lenient`) end where a share changed.

    Raises NotApplied, once all were tried, if one of them could not be given its share.
    """
    drift: list[str] = []
    spared = draining.spared()
    failed: list[NotApplied] = []
    held = _read(record)
    rooms = {inode: (workload, share) for inode, workload, share in _rooms(ruleset, snapshot)}
    for inode, (workload, share) in rooms.items():
        path = _path(workload)
        if inode not in held:
            with suppress(NamespaceMissing):
                held[inode] = inside(path, lambda: tuple(sorted(netlink.nft_tables())))
                _write(record, held)  # before anything is there: what is begun can be undone
        try:
            found = inside(path, _filler(share, workload, backend, spared, now=now))
            if found and begun is not None:
                inside(path, partial(_end, begun, workload, spared))
            drift += (f"inside {workload.key}: {sentence}" for sentence in found)
        except NamespaceMissing:  # it ended meanwhile
            continue
        except NotApplied as error:
            reason = f"inside {workload.key}: {error.message}"
            failed.append(NotApplied(reason, error.hint))
    gone = {inode: tables for inode, tables in held.items() if inode not in rooms}
    if gone:
        empty(gone)
        _write(record, {inode: held[inode] for inode in held if inode in rooms})
    if failed:
        raise failed[0]
    return tuple(drift)


def differences(ruleset: Ruleset, snapshot: Snapshot, backend: str) -> tuple[str, ...]:
    """What is not as it should be inside workloads, in sentences."""
    found: list[str] = []
    for _, workload, share in _rooms(ruleset, snapshot):
        with suppress(NamespaceMissing):
            actual = inside(_path(workload), lambda: kernel.read(backend))
            told = plan(share, actual).drift
            found += (f"inside {workload.key}: {sentence}" for sentence in told)
    return tuple(found)


def forbidden(ruleset: Ruleset, snapshot: Snapshot) -> set[Talk]:
    """The live sessions there that these rules would not let begin."""
    found: set[Talk] = set()
    for _, workload, share in _rooms(ruleset, snapshot):
        with suppress(NamespaceMissing):
            live = sockets.talks((workload,))
            found |= live.difference(sockets.permitted(share, live, workload.addresses))
    return found


def remarks(ruleset: Ruleset, snapshot: Snapshot) -> tuple[str, ...]:
    """What `plan` says of workloads that the host's rules alone do not hold."""
    seen = kernel.bridges_seen()
    found = []
    for workload in snapshot.workloads:
        if not hidden_from_host(workload, snapshot, bridges_seen=seen):
            continue
        if share_of(ruleset, _addresses(workload)) is None:
            continue
        if workload.pid is None:
            found.append(
                f"{workload.key} has packets that this host does not see, and no process whose"
                " namespace could be entered: not enforced there"
            )
            continue
        found.append(f"{workload.key} is enforced inside its own namespace")
        if _may_change_network(workload.pid):
            found.append(
                f"{workload.key} has NET_ADMIN: it can remove the rules inside its own namespace"
            )
    return tuple(found)


def _may_change_network(pid: int) -> bool:
    """Whether NET_ADMIN is among what the process may ever hold (proc(5), CapBnd)."""
    with suppress(OSError):
        mask = _BOUND.search((PROC / str(pid) / "status").read_text())
        return mask is None or bool(int(mask[1], 16) >> NET_ADMIN & 1)
    return True


def _addresses(workload: Workload) -> tuple[str, ...]:
    return (*workload.addresses, *workload.link_local)


def _path(workload: Workload) -> Path:
    return path_of_pid(workload.pid or 0)


def _rooms(ruleset: Ruleset, snapshot: Snapshot) -> Iterator[tuple[int, Workload, Ruleset]]:
    """Inode, workload and share of each namespace that needs one; never the host's own."""
    seen, taken = kernel.bridges_seen(), {kernel.namespace_inode()}
    for workload in snapshot.workloads:
        if workload.pid is None:
            continue
        if not hidden_from_host(workload, snapshot, bridges_seen=seen):
            continue
        try:
            inode = _path(workload).stat().st_ino
        except OSError:  # it ended meanwhile
            continue
        share = None if inode in taken else share_of(ruleset, _addresses(workload))
        if share is not None:
            taken.add(inode)
            yield inode, workload, share


def _filler(
    share: Ruleset, workload: Workload, backend: str, spared: frozenset[Talk], *, now: int
) -> Callable[[], tuple[str, ...]]:
    """What is to be done inside: bring the namespace to its share, and say what differed.

    At first sessions are made known that may go on: those that are permitted, or `spared`.
    """

    def fill() -> tuple[str, ...]:
        actual = kernel.read(backend)
        first = plan(share, actual)
        if first.empty:
            return ()
        if actual.fresh:  # conntrack watches, and knows what goes on, before anything is denied
            kernel.carry_out(plan(compile((), Snapshot(workload.host), now=now), actual), backend)
            talks = sockets.talks((workload,))
            for talk in (*sockets.permitted(share, talks, workload.addresses), *spared & talks):
                sockets.adopt(talk)
        for _ in range(TRIES):
            left = plan(share, kernel.read(backend))
            if left.empty:
                return first.drift
            kernel.carry_out(left, backend)
        raise NotApplied(f"what was read back differs: {left.drift[0]}")

    return fill


def _end(begun: Ruleset, workload: Workload, spared: frozenset[Talk]) -> None:
    """Cut what these rules forbid, in the calling thread's network namespace."""
    share = share_of(begun, _addresses(workload))
    found = sessions.forbidden(share, workload.addresses) if share else []
    over = [s for s in found if s.talk not in spared and s.talk.turned not in spared]
    sockets.end({session.talk for session in over}, (workload,))
    for session in over:
        sessions.cut(session)


def leave(record: Path) -> bool:
    """Take our rules out of every namespace that we remember; True if there was any."""
    held = _read(record)
    empty(held)
    record.unlink(missing_ok=True)
    return bool(held)


def empty(held: dict[int, tuple[str, ...]]) -> None:
    """Take our rules out of these namespaces (inode to the tables that were there before)."""
    for inode, path in _paths(set(held)):
        with suppress(NamespaceMissing):
            inside(path, _emptier(held[inode]))


def _emptier(before: tuple[str, ...]) -> Callable[[], None]:
    def work() -> None:
        kernel.take_away()
        for family, title in ((4, "ip filter"), (6, "ip6 filter")):
            made_by_us = title not in before and title in netlink.nft_tables()
            if made_by_us and kernel.is_bare(kernel.saved(kernel.NFT, family)):
                netlink.delete_nft_table(title)

    return work


def _paths(inodes: set[int]) -> Iterator[tuple[int, Path]]:
    """A way into each of these namespaces, through a process or a name, if there still is one."""
    wanted = inodes - {kernel.namespace_inode()}
    ways = (*NAMED.glob("*"), *(each / "ns/net" for each in PROC.iterdir() if each.name.isdigit()))
    for path in ways if wanted else ():
        try:
            inode = os.stat(path).st_ino
        except OSError:
            continue
        if inode in wanted:
            wanted.discard(inode)
            yield inode, path


def _read(record: Path) -> dict[int, tuple[str, ...]]:
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[int, tuple[str, ...]])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


def _write(record: Path, held: dict[int, tuple[str, ...]]) -> None:
    fresh = record.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(held))
    fresh.replace(record)

"""Who is quarantined on this host: remembered by name, put into the kernel, ended.

The list is kept under /run/netwatch by network namespace, beside what `host apply` remembers and
not in it: applying and taking away policies leave it alone. A copy outlives a reboot (`standing`).
Rules are written by `host.apply` and `upkeep.look` only, from a snapshot that says who is
quarantined.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

import msgspec

from netwatch.enforce import gate, host, kernel, named, sessions, standing
from netwatch.enforce.cordon import may_talk
from netwatch.enforce.sets import NotApplied
from netwatch.enforce.upkeep import refresh
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Quarantine, Snapshot
from netwatch.model.workload import Workload

MAX_QUARANTINED = 256  # each with exceptions costs up to five rules
MAX_NETWORKS = 16
PATIENCE_S = 5.0  # the agent holds the lock for about 50 ms each time it looks
PAUSE_S = 0.02
TRIES = 3
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What `quarantine` did: its entry, the addresses that are cut off, sessions that ended."""

    entry: Quarantine
    addresses: tuple[str, ...]
    cuts: tuple[str, ...]


def place() -> Path:
    """The file of this network namespace's list."""
    return kernel.RUN / f"quarantine.{kernel.namespace_inode()}.json"


def quarantined() -> tuple[Quarantine, ...]:
    """Everybody on the list, ended by time or not; raises NetwatchError if it is damaged."""
    try:
        return msgspec.json.decode(place().read_bytes(), type=tuple[Quarantine, ...])
    except FileNotFoundError:
        return ()
    except msgspec.MsgspecError as error:
        raise NetwatchError(
            f"{place()} is damaged: {error}",
            "netwatch host remove --release-all, then quarantine and apply again",
        ) from None


def lasting(entries: Iterable[Quarantine], *, now: int) -> tuple[Quarantine, ...]:
    """Those that time has not ended."""
    return tuple(entry for entry in entries if entry.until is None or entry.until > now)


def marked(snapshot: Snapshot, *, now: int) -> Snapshot:
    """The snapshot with all that this host remembers: what every compilation has to be given.

    Who is quarantined now, what addresses names have, and what broke an obligation.
    """
    return replace(named.dressed(snapshot, now=now), quarantined=lasting(quarantined(), now=now))


def find(snapshot: Snapshot, name: str) -> Workload:
    """The workload of this host with this name or `namespace/name`.

    Raises NetwatchError not-found, ambiguous, or is-host for one that can not be quarantined.
    """
    if snapshot.problem:
        raise NetwatchError(
            f"the workloads of this host are not known: {snapshot.problem}",
            "nothing was changed; see netwatch doctor",
        )
    chosen = by_name(name, {workload.key: workload for workload in snapshot.workloads})
    if chosen.host_network:
        raise NetwatchError(
            f"{chosen.key} shares the host's network: it is the host and can not be quarantined",
            "stop the container, or take the host off its network",
            code="is-host",
        )
    return chosen


def entry_of(name: str) -> Quarantine:
    """The entry of this name or `namespace/name`, be the workload there or not."""
    return by_name(name, {entry.workload: entry for entry in quarantined()})


def by_name(name: str, known: dict[str, Found]) -> Found:
    """What is known by this name or `namespace/name`; raises not-found or ambiguous."""
    keys = [key for key in known if name in (key, key.rpartition("/")[2])]
    if name in keys:
        return known[name]
    if not keys:
        raise NetwatchError(
            f"there is no {name[:80]!r} here",
            f"known are {', '.join(sorted(known)[:20]) or 'none'}",
            code="not-found",
        )
    if len(keys) > 1:
        raise NetwatchError(
            f"{name[:80]!r} may be any of {', '.join(sorted(keys)[:20])}",
            "name it with its namespace",
            code="ambiguous",
        )
    return known[keys[0]]


def forensic(networks: Sequence[str]) -> tuple[str, ...]:
    """These addresses and networks as rules spell them; raises NetwatchError for what is none."""
    found = []
    for text in networks:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            raise NetwatchError(
                f"{text[:60]!r} is no address and no network", "write 192.0.2.7 or 2001:db8::/64"
            ) from None
        if not network.prefixlen:
            raise NetwatchError(
                f"{text} is everybody: that is no quarantine", "allow the forensic address only"
            )
        found.append(str(network))
    if len(found) > MAX_NETWORKS:
        raise NetwatchError(f"{len(found)} networks are allowed, at most {MAX_NETWORKS} can be")
    return tuple(dict.fromkeys(found))


def quarantine(
    workload: Workload, snapshot: Snapshot, *, allow: Sequence[str], until: int | None, now: int
) -> Quarantined:
    """Cut this workload off; returns once the rules were read back and its sessions are gone.

    Raises what `host.apply` raises, with everything as it was before.
    """
    entry = Quarantine(workload.key, forensic(allow), until)
    after = replace(snapshot, quarantined=(entry,))
    doomed = {str(session) for session in _sessions(after)}

    def with_it(entries: tuple[Quarantine, ...]) -> tuple[Quarantine, ...]:
        others = tuple(e for e in lasting(entries, now=now) if e.workload != entry.workload)
        if len(others) >= MAX_QUARANTINED:
            raise NetwatchError(
                f"{MAX_QUARANTINED} workloads are quarantined, a host can not hold more",
                "netwatch release NAME",
            )
        return (*others, entry)

    _change(with_it, snapshot, now=now)
    for session in _sessions(after):
        sessions.cut(session)
        doomed.add(str(session))
    return Quarantined(entry, workload.addresses, tuple(sorted(doomed)))


def release(entry: Quarantine, snapshot: Snapshot, *, now: int) -> None:
    """Let it talk again as far as policies do; raises what `host.apply` raises."""

    def without_it(entries: tuple[Quarantine, ...]) -> tuple[Quarantine, ...]:
        return tuple(e for e in lasting(entries, now=now) if e.workload != entry.workload)

    _change(without_it, snapshot, now=now)


def expire(snapshot: Snapshot, *, now: int) -> tuple[Quarantine, ...]:
    """Release whom time has ended, and say who that was."""
    before = quarantined()
    over = tuple(entry for entry in before if entry not in lasting(before, now=now))
    if over:
        _change(lambda entries: lasting(entries, now=now), snapshot, now=now)
    return over


def remove(*, release_all: bool, for_good: bool = True) -> bool:
    """`host.remove`; raises NetwatchError while somebody is quarantined, unless `release_all`."""
    if release_all:
        found = place().exists()
        place().unlink(missing_ok=True)  # first: an agent would put it back
        standing.forget(documents=False, quarantined=True)
        return host.remove(for_good=for_good) or found
    held = quarantined()
    if held:
        raise NetwatchError(
            f"{', '.join(entry.workload for entry in held[:20])} would be set free",
            "--release-all does that; --keep-quarantine takes only the policies away",
            code="quarantined",
        )
    return host.remove(for_good=for_good)


def enforce_only(
    files: Sequence[Path], snapshot: Snapshot, *, backend: str, now: int, drain: bool = False
) -> None:
    """These policies and the quarantine; `host.remove` where there is neither."""
    chosen = marked(snapshot, now=now)
    if files or chosen.quarantined:
        host.apply(files, chosen, backend=backend, now=now, drain=drain)
    else:
        host.remove()


Change = Callable[[tuple[Quarantine, ...]], tuple[Quarantine, ...]]


def _change(change: Change, snapshot: Snapshot, *, now: int) -> None:
    """The list and the kernel, both or neither."""
    with _alone():
        before = quarantined()
        after = change(before)
        _write(after)
        try:
            settle(snapshot, now=now)
        except NetwatchError:
            _write(before)
            raise


def settle(snapshot: Snapshot, *, now: int) -> None:
    """Bring the kernel to what is applied and who is quarantined, and read it back."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _settle(marked(snapshot, now=now), now=now)
        except kernel.Busy:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)


def _settle(snapshot: Snapshot, *, now: int) -> None:
    state = host.applied()
    if state is None or not state.policies:
        return enforce_only([], snapshot, backend=state.backend if state else "auto", now=now)
    left: tuple[str, ...] = ()
    for _ in range(TRIES):
        refresh(state, snapshot, now=now)
        left = host.verify(snapshot, now=now)
        state = host.applied() or state
        if not left:
            gate.open_gate()
            return None
    raise NotApplied(
        f"what was read back differs: {left[0]}", "another program changes the rules meanwhile"
    )


def _sessions(snapshot: Snapshot) -> Iterator[sessions.Session]:
    """The live sessions that the snapshot's quarantine does not let be."""
    may = may_talk(snapshot)
    for session in sessions.live_sessions():
        if not may(session.source, session.destination):
            yield session


@contextmanager
def _alone() -> Iterator[None]:
    """One change of a list at a time, and a second one waits; the folder itself is the lock."""
    kernel.RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(kernel.RUN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(entries: tuple[Quarantine, ...]) -> None:
    if entries:
        bring_back(entries)
        standing.keep(quarantined=entries)
    else:
        place().unlink(missing_ok=True)
        standing.forget(documents=False, quarantined=True)


def bring_back(entries: Sequence[Quarantine]) -> None:
    """Write the list; the next look gives it force."""
    kernel.RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = place().with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(entries))
    fresh.replace(place())

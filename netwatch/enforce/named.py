"""The addresses of DNS names on this host, as an agent learned them: one file that all read.

Kept under /run/netwatch by network namespace. An address counts for new connections while its time
lasts, and for sessions that live on for a day more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from netwatch.enforce import closures, kernel, refused
from netwatch.model.snapshot import Addresses, Snapshot
from netwatch.model.times import SECOND

GRACE = 60 * SECOND
"""After the time to live: a client may connect late to what it resolved, and asks again then."""
LAPSED = 86_400 * SECOND  # how long a session may outlive the name that it was opened by
MAX_KEPT = 8_192  # a report brings 4,096 at most, and reading as many takes 5 ms


@dataclass(frozen=True, slots=True)
class Named:
    """`name` has `address` until then (ns, grace included), as `workload` was told (None: the
    host)."""

    name: str
    address: str
    until: int
    workload: str | None = None


def place() -> Path:
    """The file of this network namespace."""
    return kernel.RUN / f"names.{kernel.namespace_inode()}.json"


def read() -> tuple[Named, ...]:
    """Everything that is kept; a damaged file is as good as none: names are learned again."""
    try:
        return msgspec.json.decode(place().read_bytes(), type=tuple[Named, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


def keep(entries: Iterable[Named], file: Path) -> None:
    """Write them, whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(msgspec.json.encode(tuple(entries)))
    part.replace(file)


def known(entries: Iterable[Named], *, now: int) -> tuple[Addresses, Addresses]:
    """`Snapshot.names` and `Snapshot.lapsed` at this moment."""
    chosen = tuple(entries)
    current = [entry for entry in chosen if entry.until > now]
    there = {(entry.name, entry.address) for entry in current}
    past = [
        entry
        for entry in chosen
        if entry.until <= now < entry.until + LAPSED and (entry.name, entry.address) not in there
    ]
    return _by_name(current), _by_name(past)


def dressed(snapshot: Snapshot, *, now: int) -> Snapshot:
    """The snapshot with what is remembered here: addresses of names, who is refused, what is
    closed.
    """
    names, lapsed = known(read(), now=now)
    return replace(
        snapshot,
        names=names,
        lapsed=lapsed,
        refused=refused.read(now=now),
        closed=closures.read(),
    )


def _by_name(entries: Iterable[Named]) -> Addresses:
    names: dict[str, set[str]] = {}
    for entry in entries:
        names.setdefault(entry.name, set()).add(entry.address)
    return tuple((name, tuple(sorted(names[name]))) for name in sorted(names))

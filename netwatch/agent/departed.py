"""Who was behind an address or an interface a moment ago.

A container may live for less than one round of the agent: when its packets are read it is gone,
and its address may be another's. So every change of the snapshot is noted when it happens.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import Workload

KEPT = 60 * SECOND  # a flow is told at most HOLD and an interval after its last packet
MOST = 8_192  # departures; a host that starts more in a minute forgets the oldest


@dataclass(frozen=True, slots=True)
class Stay:
    """A workload was here from `since` until `until`, in nanoseconds since the epoch."""

    workload: Workload
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Departed:
    """The stays that ended; an interface's index is given to nobody else so soon."""

    by_interface: Mapping[int, Workload] = field(default_factory=dict)
    by_address: Mapping[str, tuple[Stay, ...]] = field(default_factory=dict)

    def workload(self, address: str, interface: int, moment: int) -> Workload | None:
        """Who has left the interface; else who had the address at that moment."""
        left = self.by_interface.get(interface)
        if left is not None:
            return left
        stays = self.by_address.get(address, ())
        return next((s.workload for s in stays if s.since <= moment <= s.until), None)


class Presence:
    """Notes who comes and goes; from any thread. Workloads of this host only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A container loses its address before it goes, so where it was is part of the key.
        self._here: dict[tuple[object, ...], Stay] = {}
        self._left: deque[Stay] = deque(maxlen=MOST)
        self._view: Departed | None = Departed()

    def note(self, snapshot: Snapshot, now: int) -> None:
        """The snapshot of this moment. One with a problem shows nobody leaving."""
        with self._lock:
            present = {(w.runtime_id, w.addresses, w.interfaces): w for w in snapshot.workloads}
            gone = [] if snapshot.problem else [key for key in self._here if key not in present]
            for key in gone:
                stay = self._here.pop(key)
                self._left.append(Stay(stay.workload, stay.since, now))
                self._view = None
            for key, workload in present.items():
                self._here.setdefault(key, Stay(workload, now, now))

    def departed(self, now: int) -> Departed:
        """Those who left within KEPT."""
        with self._lock:
            while self._left and self._left[0].until < now - KEPT:
                self._left.popleft()
                self._view = None
            if self._view is None:
                self._view = _view(self._left)
            return self._view


def _view(left: deque[Stay]) -> Departed:
    by_interface: dict[int, Workload] = {}
    by_address: dict[str, tuple[Stay, ...]] = {}
    for stay in left:
        by_interface.update((i.index, stay.workload) for i in stay.workload.interfaces)
        for address in stay.workload.addresses:
            by_address[address] = (stay, *by_address.get(address, ()))
    return Departed(by_interface, by_address)

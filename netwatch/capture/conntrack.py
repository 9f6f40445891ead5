"""Conntrack: who really answers behind NAT; and the fallback sensor where eBPF can not be had.

Conntrack only tracks what a firewall rule makes it track (a rule that matches on connection state,
or any NAT rule, as Docker's): in a namespace without one there is nothing, and no error either.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from netwatch.capture.ctnetlink import (
    DESTROY,
    DST_NAT,
    GROUP_DESTROY,
    GROUP_NEW,
    NEW,
    SEEN_REPLY,
    SRC_NAT,
    Events,
    Overrun,
    Rows,
    dump,
)
from netwatch.capture.sensor import ENTRY, Batch, Payload, Translation
from netwatch.kernel.namespaces import inside
from netwatch.model.report import Capture

PENDING = 65_536  # translations that wait for read(); what comes on top is counted as lost
ENDED = 262_144  # ended connections that wait for read()
REMEMBERED_NS = (
    60 * 10**9
)  # an ended connection's totals go on if its ports are used again by then
DRAIN_S = 0.03
ACCOUNTING = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
KEY_SIZE = 37  # of ENTRY: both ends and the protocol
_SYN, _RST, _ACK = 2, 4, 16


def translations_of(rows: Rows) -> list[Translation]:
    """The translations among TRACKED rows."""
    found = []
    for row in rows[rows["status"] & (SRC_NAT | DST_NAT) != 0]:
        sides = [
            (
                row["source"][side].tobytes(),
                int(row["source_port"][side]),
                row["destination"][side].tobytes(),
                int(row["destination_port"][side]),
            )
            for side in (0, 1)
        ]
        found.append(Translation(int(row["protocol"]), sides[0], sides[1]))
    return found


class Translations:
    """The connections that NAT rewrote, each handed out once: first those that are there already.

    A namespace without conntrack has none. NAT is decided before the event of a new connection is
    sent, so no other event is needed.
    """

    def __init__(self, namespace: Path | None) -> None:
        self._namespace = namespace
        self._pending: list[Translation] = []
        self._overruns = 0
        self._dropped = 0
        try:
            self._events: Events | None = Events(namespace, (GROUP_NEW,))
            self._keep(dump(namespace))
        except OSError:
            self._events = None

    def drain(self) -> None:
        """Take in what happened; after an overrun, everything that is there."""
        if self._events is None:
            return
        try:
            self._keep(self._events.take())
        except Overrun:
            self._overruns += 1
            with suppress(OSError):  # no answer in time: the loss stays counted
                self._keep(dump(self._namespace))

    def take(self) -> list[Translation]:
        """Those learned since the call before."""
        pending, self._pending = self._pending, []
        return pending

    def losses(self) -> dict[str, int]:
        """Cumulative counts by reason."""
        return {"conntrack-overrun": self._overruns, "translation-full": self._dropped}

    def close(self) -> None:
        """Give the socket back."""
        if self._events is not None:
            self._events.close()

    def _keep(self, rows: Rows) -> None:
        if not len(rows):
            return  # the usual case, 33 times a second
        found = translations_of(rows)
        room = PENDING - len(self._pending)
        self._dropped += max(0, len(found) - room)
        self._pending += found[:room]


class ConntrackSensor:
    """Connections as conntrack counts them: no payload, so their encryption stays unknown.

    GSO packets count as one, and traffic that a bridge forwards is seen only with br_netfilter.
    An entry holds both directions under the tuple that the client used.
    """

    def __init__(self, *, namespace: Path | None = None, problem: str | None = None) -> None:
        """Raises OSError where the kernel has no conntrack netlink, or without the right to it."""
        self._namespace = namespace
        self._events = Events(namespace, (GROUP_NEW, GROUP_DESTROY))
        self._totals = Totals()
        self._live = dump(namespace)
        self._pending = translations_of(self._live)
        self._ended: list[Rows] = []
        self._waiting = 0
        self._losses = {"conntrack-overrun": 0, "translation-full": 0, "queue-full": 0}
        notes = [problem, "conntrack shows no payload, and only what a firewall rule tracks"]
        if inside(namespace, ACCOUNTING.read_text).strip() == "0":
            notes.append("it counts nothing: sysctl -w net.netfilter.nf_conntrack_acct=1")
        self._problem = "; ".join(note for note in notes if note)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._timer = threading.Thread(target=self._drain_always, name="capture", daemon=True)
        self._timer.start()

    def watch(self, workloads: Sequence[int], uplinks: Sequence[int]) -> None:
        """Nothing to do: conntrack sees the whole namespace or nothing."""

    def read(self) -> Batch:
        """What was seen until now."""
        with self._lock:
            self._drain()
            ended, self._ended, self._waiting = self._ended, [], 0
            pending, self._pending = self._pending, []
        monotonic = time.monotonic_ns()
        live = dump(self._namespace)
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        over = np.concatenate([np.zeros(0, ENTRY), *(entries_of(rows) for rows in ended)])
        entries = self._totals.add(over, entries_of(live), now)
        losses = tuple(sorted(self._losses.items()))
        clock = now - monotonic
        return Batch(entries, (), pending, losses, moment=monotonic, clock=clock)

    def classified(self, payload: Payload) -> None:
        """Nothing to do: there is no payload."""

    def state(self) -> Capture:
        """How it sees; conntrack is attached to no interface."""
        return Capture("conntrack", (), self._problem)

    def close(self) -> None:
        """Give the socket back."""
        self._closing.set()
        self._timer.join()
        self._events.close()

    def _drain(self) -> None:
        try:
            rows = self._events.take()
        except Overrun:
            self._losses["conntrack-overrun"] += 1
            with suppress(OSError):  # no answer in time: the loss stays counted
                self._pending += translations_of(dump(self._namespace))[:PENDING]
            return
        if not len(rows):
            return
        found = translations_of(rows[rows["type"] == NEW])
        ended = rows[rows["type"] == DESTROY]
        keep = found[: PENDING - len(self._pending)]
        room = max(0, ENDED - self._waiting)
        self._losses["translation-full"] += len(found) - len(keep)
        self._losses["queue-full"] += max(0, len(ended) - room)
        self._pending += keep
        self._waiting += len(ended[:room])
        self._ended.append(ended[:room])

    def _drain_always(self) -> None:
        while not self._closing.is_set():
            time.sleep(DRAIN_S)  # Event.wait costs twice as much
            with self._lock:
                self._drain()


def entries_of(rows: Rows) -> Rows:
    """TRACKED rows as ENTRY rows without times; those of the loopback interface are left out.

    Where nothing was counted a packet per direction that was seen is, as the least that is true.
    """
    source, destination = rows["source"][:, 0], rows["destination"][:, 0]
    one = np.frombuffer(bytes(15) + b"\1", np.uint8)
    mapped = (source[:, 10:12] == 255).all(axis=1)
    local = (mapped & (source[:, 12] == 127)) | (source == one).all(axis=1)
    rows, source, destination = rows[~local], source[~local], destination[~local]
    entries = np.zeros(len(rows), ENTRY)
    ends = np.stack([source, destination], 1)
    ports = np.stack([rows["source_port"][:, 0], rows["destination_port"][:, 0]], 1)
    swap = _greater(ends.view(">u8"), ports)
    order = np.where(swap[:, None], [1, 0], [0, 1])  # which end is low, which is high
    ends = np.take_along_axis(ends, order[:, :, None], 1).view("V16")[:, :, 0]
    entries["low"], entries["high"] = ends[:, 0], ends[:, 1]
    ports = np.take_along_axis(ports, order, 1)
    entries["low_port"], entries["high_port"] = ports[:, 0], ports[:, 1]
    entries["protocol"] = rows["protocol"]
    entries["low_is_client"] = ~swap
    replied = rows["status"] & SEEN_REPLY != 0
    least = np.stack([np.ones(len(rows), np.uint64), replied.astype(np.uint64)], 1)
    packets = np.maximum(rows["packets"], least)
    tcp = rows["protocol"] == socket.IPPROTO_TCP
    refused = tcp & (rows["type"] == DESTROY) & ~replied & (rows["packets"][:, 1] > 0)
    flags = np.zeros((len(rows), 2), np.uint8)
    flags[tcp, 0] = _SYN
    flags[tcp & replied] = _SYN | _ACK
    flags[refused, 1] = _RST | _ACK
    entries["packets"] = np.take_along_axis(packets, order, 1)
    entries["bytes"] = np.take_along_axis(rows["bytes"], order, 1)
    entries["flags"] = np.take_along_axis(flags, order, 1)
    entries["opened"], entries["refused"] = tcp, refused
    return entries


def _greater(ends: Rows, ports: Rows) -> Rows:
    """Whether the first end sorts after the second: by address, then by port."""
    a, b = ends[:, 0], ends[:, 1]
    tie = np.where(a[:, 1] == b[:, 1], ports[:, 0] > ports[:, 1], a[:, 1] > b[:, 1])
    greater: Rows = np.where(a[:, 0] == b[:, 0], tie, a[:, 0] > b[:, 0])
    return greater


class Totals:
    """Adds up the connections of each tuple, one after the other, so that totals never fall."""

    def __init__(self) -> None:
        self._finished = np.zeros(0, ENTRY)
        self._reported = np.zeros(0, ENTRY)
        self._reads = 0

    def add(self, ended: Rows, live: Rows, now: int) -> Rows:
        """The totals with what ended since the call before and what is live now."""
        self._reads += 1
        self._finished = _sum_by_key(np.concatenate([self._finished, ended]))
        before = self._reported.copy()
        for name in ("packets", "bytes", "opened", "refused"):
            before[name] = 0
        parts = np.concatenate([before, self._finished, live])
        totals, places = _sum_with_places(parts)
        old = np.zeros(len(totals), ENTRY)
        old[places[: len(before)]] = self._reported
        for name in ("packets", "bytes", "opened", "refused"):
            # a connection that ended after the events were taken and before the list was
            totals[name] = np.maximum(totals[name], old[name])
        grown = totals["packets"] > old["packets"]
        totals["first"] = np.where(grown & (old["first"] == 0), now, old["first"])
        totals["last"] = np.where(grown, now, old["last"])
        totals["life"] = np.where(old["life"] == 0, self._reads, old["life"])
        alive = np.zeros(len(totals), bool)
        alive[places[len(parts) - len(live) :]] = True
        kept = alive | (totals["last"].max(axis=1, initial=0) + REMEMBERED_NS > now)
        self._reported = totals[kept]
        self._finished = self._finished[kept[places[len(before) : len(parts) - len(live)]]]
        return totals


def _sum_with_places(rows: Rows) -> tuple[Rows, Rows]:
    raw = rows.view(np.uint8).reshape(len(rows), ENTRY.itemsize)
    keys = np.ascontiguousarray(raw[:, :KEY_SIZE]).view(f"V{KEY_SIZE}")[:, 0]
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    totals = rows[first]
    for name in ("packets", "bytes", "opened", "refused"):
        totals[name] = 0
        np.add.at(totals[name], places, rows[name])
    np.bitwise_or.at(totals["flags"], places, rows["flags"])
    return totals, places


def _sum_by_key(rows: Rows) -> Rows:
    return _sum_with_places(rows)[0]

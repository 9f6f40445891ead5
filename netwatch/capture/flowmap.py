"""Reads the kernel's flow map into ENTRY rows, keeps account of what was lost, and makes room."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture import libbpf
from netwatch.capture.sensor import ENTRY

COUNTS = ("packets", "bytes", "payload_bytes")  # struct counts
KEY_SIZE = 40  # struct key of flow.bpf.c: the first bytes of ENTRY
HEAD_SIZE = ENTRY.itemsize - KEY_SIZE  # of struct entry: the other bytes of ENTRY
VALUE = np.dtype(  # what is read of struct entry beside its head
    {
        "names": ["last", *COUNTS, "born", "low_is_client", "state"],
        "formats": [("<u8", 2)] * 4 + ["<u8", "i1", "u1"],
        "offsets": [64, 112, 128, 144, 160, 168, 169],
        "itemsize": 192,
    }
)
STATISTICS = (  # struct statistics
    *("inserted", "map-full", "ring-full", "malformed", "fragment"),
    *("packets", "opened", "first-bytes-not-judged"),
)
_LOSSES = (1, 2, 3, 4, 7)
_TOTALS = slice(5, 7)

BOTH_ENDED = 6  # entry.state: a FIN from both directions
RESET = 8
IDLE_NS = 300 * 10**9  # an idle connection is forgotten then; UDP and broken ones never close
CLOSED_NS = 5 * 10**9  # a closed one: long enough for its last retransmissions

Rows = npt.NDArray[Any]


class FlowMap:
    """The flow map and its account. Every insert ends as reported, evicted or still unreported.

    An entry is reported from the read on that began after its insert was counted. `evicted` are
    entries that the kernel threw out before they were reported; `cut-short` were reported but
    thrown out while alive, so what they counted since the last read is lost. Entries that are
    idle are deleted after they were reported: `expired` counts those, and is no loss.
    What was lost with entries is told exactly: `packets-lost` and `connections-lost` (of TCP).
    """

    def __init__(self, flows: int, statistics: int, size: int) -> None:
        """Descriptors of the two maps, and the number of entries that `flows` holds."""
        processors = libbpf.processors()
        size += size // 4 + 1024  # for what comes and goes while it is read
        self._flows, self._statistics = flows, statistics
        self._keys = np.zeros((size, KEY_SIZE), np.uint8)
        self._values = np.zeros((size, VALUE.itemsize), np.uint8)
        self._counters = np.zeros((processors, len(STATISTICS)), np.uint64)
        self._drained = np.zeros(processors, np.int64)
        self._live = 0
        self._evicted = 0
        self._cut_short = 0
        self._shown = _Shown()
        self.expired = 0

    def read(self, now: int, offset: int) -> Rows:
        """One ENTRY row for every connection in the map; forgets the idle ones.

        `now` is the monotonic clock, `offset` what is added to it for the epoch.
        """
        counters = self._count().astype(np.int64)
        inserted = counters[:, 0]
        filled = libbpf.lookup_batch(self._flows, self._keys, self._values)
        keys, values = self._keys[:filled], self._values[:filled]
        private = values.view(VALUE)[:, 0]
        processor = (private["born"] >> np.uint64(48)).astype(np.int64)
        number = (private["born"] & np.uint64(2**48 - 1)).astype(np.int64)
        ready = number <= inserted[processor]
        fresh = ready & (number > self._drained[processor])
        known = int(np.count_nonzero(ready)) - int(np.count_nonzero(fresh))
        evicted = int((inserted - self._drained).sum()) - int(np.count_nonzero(fresh))
        cut_short = self._live - known
        self._evicted += evicted
        self._cut_short += cut_short
        self._drained = inserted
        if not ready.all():
            keys, values, private = keys[ready], values[ready], private[ready]
            processor, number = processor[ready], number[ready]
        old = _old(private, now)
        forgotten = libbpf.delete_batch(self._flows, keys[old])  # at once: some may speak again
        self.expired += forgotten
        entries = _as_entries(keys, values, offset)
        for name in COUNTS:  # by the CPU that made the entry, and by the others
            entries[name] += private[name]
        entries["low_is_client"] = private["low_is_client"]
        entries["life"] = (number * len(inserted) + processor).astype(np.uint32)
        self._shown.take(private["born"], entries, all_there=not (evicted or cut_short))
        self._shown.compare(counters[:, _TOTALS].sum(axis=0))
        self._shown.forget(old)
        self._live = len(entries) - forgotten
        return entries

    def losses(self) -> dict[str, int]:
        """Cumulative counts by reason."""
        totals = self._count().sum(axis=0)
        named = {STATISTICS[n]: int(totals[n]) for n in _LOSSES}
        packets, connections = self._shown.lost.tolist()
        return {
            **named,
            "evicted": self._evicted,
            "cut-short": self._cut_short,
            "packets-lost": packets,
            "connections-lost": connections,
        }

    def _count(self) -> npt.NDArray[np.uint64]:
        libbpf.lookup(self._statistics, bytes(4), self._counters)
        return self._counters


class _Shown:
    """How many packets and opened connections reads have shown, entries that went included.

    The kernel adds to its totals after it added to an entry, and the totals are read before the
    map: so a read shows at least what they say, unless it went with an entry.
    """

    def __init__(self) -> None:
        self._born = np.zeros(0, np.uint64)
        self._before = np.zeros((0, 2), np.int64)
        self._sum = np.zeros(2, np.int64)
        self.lost = np.zeros(2, np.int64)

    def take(self, born: Rows, entries: Rows, *, all_there: bool) -> None:
        """A read; `all_there` says that every entry kept from the read before is in it."""
        now = np.empty((len(entries), 2), np.int64)
        now[:, 0] = entries["packets"].sum(axis=1)
        now[:, 1] = entries["opened"]
        before = self._before
        if not all_there:
            before = before[np.isin(self._born, born)]
        self._sum += now.sum(axis=0) - before.sum(axis=0)
        self._born, self._before = born.copy(), now

    def compare(self, totals: Rows) -> None:
        """What the kernel counted until this read began."""
        self.lost = np.maximum(self.lost, totals - self._sum)

    def forget(self, rows: Rows) -> None:
        """These rows of the read were deleted."""
        if rows.any():
            self._born, self._before = self._born[~rows], self._before[~rows]


def _old(private: Rows, now: int) -> Rows:
    last = private["last"]
    idle = now - np.maximum(last[:, 0], last[:, 1]).astype(np.int64)
    state = private["state"]
    closed = (state & RESET != 0) | (state & BOTH_ENDED == BOTH_ENDED)
    found: Rows = (idle > IDLE_NS) | (closed & (idle > CLOSED_NS))
    return found


def _as_entries(keys: Rows, values: Rows, offset: int) -> Rows:
    entries = np.empty(len(keys), ENTRY)
    raw = entries.view(np.uint8).reshape(len(keys), ENTRY.itemsize)
    raw[:, :KEY_SIZE] = keys
    raw[:, KEY_SIZE:] = values[:, :HEAD_SIZE]
    for name in ("first", "last"):
        seen = entries[name]
        np.add(seen, np.uint64(offset), out=seen, where=seen != 0)
    return entries

"""Reads the kernel's flow map into ENTRY rows, keeps account of what was lost, and makes room."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture import libbpf
from netwatch.capture.sensor import ENTRY

KEY_SIZE = 40  # struct key of flow.bpf.c: the first bytes of ENTRY
HEAD_SIZE = ENTRY.itemsize - KEY_SIZE  # of struct entry: the other bytes of ENTRY
VALUE = np.dtype(  # what is read of struct entry beside its head
    {
        "names": ["last", "low_is_client", "state", "born"],
        "formats": [("<u8", 2), "i1", "u1", "<u8"],
        "offsets": [64, 90, 91, 112],
        "itemsize": 136,
    }
)
STATISTICS = ("inserted", "map-full", "ring-full", "malformed", "fragment")  # struct statistics

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
        self.expired = 0

    def read(self, now: int, offset: int) -> Rows:
        """One ENTRY row for every connection in the map; forgets the idle ones.

        `now` is the monotonic clock, `offset` what is added to it for the epoch.
        """
        inserted = self._count()[:, 0].astype(np.int64)
        filled = libbpf.lookup_batch(self._flows, self._keys, self._values)
        keys, values = self._keys[:filled], self._values[:filled]
        private = values.view(VALUE)[:, 0]
        processor = (private["born"] >> np.uint64(48)).astype(np.int64)
        number = (private["born"] & np.uint64(2**48 - 1)).astype(np.int64)
        ready = number <= inserted[processor]
        fresh = ready & (number > self._drained[processor])
        known = int(np.count_nonzero(ready)) - int(np.count_nonzero(fresh))
        born = int((inserted - self._drained).sum())
        self._evicted += born - int(np.count_nonzero(fresh))
        self._cut_short += self._live - known
        self._drained = inserted
        if not ready.all():
            keys, values, private = keys[ready], values[ready], private[ready]
            processor, number = processor[ready], number[ready]
        entries = _as_entries(keys, values, offset)
        entries["low_is_client"] = private["low_is_client"]
        entries["life"] = (number * len(inserted) + processor).astype(np.uint32)
        self._live = len(entries) - self._forget(keys, private, now)
        return entries

    def losses(self) -> dict[str, int]:
        """Cumulative counts by reason."""
        totals = self._count().sum(axis=0)
        losses = dict(zip(STATISTICS[1:], (int(n) for n in totals[1:]), strict=True))
        return {**losses, "evicted": self._evicted, "cut-short": self._cut_short}

    def _count(self) -> npt.NDArray[np.uint64]:
        libbpf.lookup(self._statistics, bytes(4), self._counters)
        return self._counters

    def _forget(self, keys: Rows, private: Rows, now: int) -> int:
        last = private["last"]
        idle = now - np.maximum(last[:, 0], last[:, 1]).astype(np.int64)
        state = private["state"]
        closed = (state & RESET != 0) | (state & BOTH_ENDED == BOTH_ENDED)
        old = (idle > IDLE_NS) | (closed & (idle > CLOSED_NS))
        forgotten = libbpf.delete_batch(self._flows, keys[old])
        self.expired += forgotten
        return forgotten


def _as_entries(keys: Rows, values: Rows, offset: int) -> Rows:
    entries = np.empty(len(keys), ENTRY)
    raw = entries.view(np.uint8).reshape(len(keys), ENTRY.itemsize)
    raw[:, :KEY_SIZE] = keys
    raw[:, KEY_SIZE:] = values[:, :HEAD_SIZE]
    for name in ("first", "last"):
        seen = entries[name]
        np.add(seen, np.uint64(offset), out=seen, where=seen != 0)
    return entries

"""Connections too many to be looked at one by one: added up by edge, in columns.

The sensor says which began as one of too many: nobody has their first bytes. What is added up is
alike in all that a flow tells of it, so the sum is exact; only the clients' ports are given up.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import NamedTuple

import numpy as np

from netwatch.agent.addresses import text_of
from netwatch.agent.names import Names
from netwatch.agent.row import FIN, PROTOCOLS, RST, Row, is_new, rows_of
from netwatch.agent.told import COUNTED, TOTALS, Changed, Rows
from netwatch.capture.sensor import ENTRY
from netwatch.model.probe import PORTS

TCP = 6
# All that a flow is made of, but for the client's port and the counters themselves.
ALIKE = np.dtype(
    [
        ("low", "V16"),
        ("high", "V16"),
        ("server_port", "<u2"),
        ("protocol", "u1"),
        ("low_calls", "u1"),
        ("low_is_client", "i1"),
        ("interfaces", "<u4", 2),
        ("flags", "u1", 2),
        ("spoke", "u1", 2),
        ("paid", "u1", 2),
        ("refused", "u1"),
    ]
)


class Sums(NamedTuple):
    """What is told: one row for many, and the totals of each by TOTALS' fields, with its place."""

    rows: list[Row]
    places: Rows
    totals: list[Rows]


class Crowd:
    """Remembers what it holds back: who has had no answer yet may have one in a moment."""

    def __init__(self) -> None:
        self._waiting = Changed(np.zeros(0, ENTRY), np.zeros(0, TOTALS), np.zeros(0, np.int64))

    @property
    def places(self) -> list[int]:
        """Of what is held back."""
        found: list[int] = self._waiting.places.tolist()
        return found

    def take(self, changed: Changed, mine: Rows, names: Names, *, young: int) -> Sums:
        """The sums to tell, once `mine` (a mask) of what changed is taken in.

        Who began after `young` and has no answer yet waits, unless the kernel threw it out.
        """
        here = np.isin(self._waiting.places, changed.places)
        gone = self._waiting.part(here & ~np.isin(_lives(self._waiting), _lives(changed)))
        crowd = _joined(self._waiting.part(~here), changed.part(mine))
        ready = _is_told(crowd.rows, young)
        self._waiting, crowd = crowd.part(~ready), crowd.part(ready)
        totals = [crowd.rows[name] for name in (*COUNTED, "life")]
        totals.append(np.zeros(len(crowd.rows), np.uint8))  # nobody knows whether it is encrypted
        return Sums(_sums(_joined(gone, crowd), names), crowd.places, totals)


def _joined(one: Changed, other: Changed) -> Changed:
    if not len(one.rows):
        return other
    return Changed(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def may_be_summed(rows: Rows, names: Names) -> Rows:
    """A mask of the crowded rows, those excepted whose port or moment matters."""
    chosen: Rows = rows["crowded"] != 0
    for end in ("low", "high"):
        ports = rows[f"{end}_port"]
        chosen &= (ports < PORTS.start) | (ports >= PORTS.stop)
        if names.departed.by_address and chosen.any():  # whose address it was depends on when
            left = names.departed.by_address
            chosen &= np.fromiter((text_of(a) not in left for a in rows[end].tolist()), bool)
    return chosen


def _lives(changed: Changed) -> Rows:
    lives: Rows = changed.places << 32 | changed.rows["life"]
    return lives


def _is_told(rows: Rows, young: int) -> Rows:
    first = np.where(rows["first"] == 0, np.uint64(2**64 - 1), rows["first"]).min(
        axis=1, initial=2**64 - 1
    )
    ended = (rows["flags"] & (FIN | RST)).any(axis=1)
    told: Rows = rows["packets"].all(axis=1) | ended | (first <= young)
    return told


def _sums(changed: Changed, names: Names) -> list[Row]:
    """One row for all that are alike; its client's port is that of any of them."""
    rows, told, _ = changed
    if not len(rows):
        return []
    order, starts = _grouped(_alike(rows, names))
    sums, before = rows[order[starts]], np.zeros(len(starts), TOTALS)
    for name in COUNTED:
        sums[name] = np.add.reduceat(rows[name][order], starts)
        before[name] = np.add.reduceat(told[name][order], starts)
    sums["first"] = np.minimum.reduceat(rows["first"][order], starts)
    sums["last"] = np.maximum.reduceat(rows["last"][order], starts)
    new = np.add.reduceat(is_new(changed)[order].astype(np.int64), starts)
    return list(rows_of(Changed(sums, before, np.zeros(len(starts), np.int64)), new))


def _alike(rows: Rows, names: Names) -> Rows:
    found = np.zeros(len(rows), ALIKE)
    for name in ("low", "high", "protocol", "low_is_client", "flags"):
        found[name] = rows[name]
    found["interfaces"] = rows["ifindex"]
    low_calls = _low_calls(rows, names)
    found["low_calls"] = low_calls
    found["server_port"] = np.where(low_calls, rows["high_port"], rows["low_port"])
    found["spoke"], found["paid"] = rows["packets"] != 0, rows["payload_bytes"] != 0
    found["refused"] = rows["refused"] != 0
    return found


def _grouped(alike: Rows) -> tuple[Rows, Rows]:
    """The rows in an order that puts each group together, and where in it each group starts."""
    known: dict[bytes, int] = defaultdict(count().__next__)
    keys = alike.view(f"V{ALIKE.itemsize}").tolist()
    numbers = np.fromiter(map(known.__getitem__, keys), np.int64, len(keys))
    order = np.argsort(numbers, kind="stable")
    return order, np.searchsorted(numbers[order], np.arange(len(known)))


def _low_calls(rows: Rows, names: Names) -> Rows:
    """Whether the low end is the client, as `flowtable` finds it for one row."""
    syn = (rows["protocol"] == TCP) & (rows["low_is_client"] >= 0)
    told = rows["low_is_client"] == 1
    if syn.all():
        return told  # type: ignore[no-any-return]
    first = rows["first"]
    spoke = (first[:, 0] > 0) & ((first[:, 1] == 0) | (first[:, 0] <= first[:, 1]))
    low, high = (_serves(rows, end, names) for end in ("low", "high"))
    found: Rows = np.where(syn, told, np.where(low != high, high, spoke))
    return found


def _serves(rows: Rows, end: str, names: Names) -> Rows:
    serves = np.zeros(len(rows), bool)
    for packed, number in set(zip(rows[end].tolist(), rows["protocol"].tolist(), strict=True)):
        ports = names.served(text_of(packed), PROTOCOLS.get(number, str(number)))
        if ports:
            there = (rows[end] == np.void(packed)) & (rows["protocol"] == number)
            serves |= there & np.isin(rows[f"{end}_port"], list(ports))
    return serves

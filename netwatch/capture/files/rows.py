"""Packets to connections: sort, cut, add up; and the same again for what was added up before.

A row is a connection, or a stretch of one. Rows of one key are cut where a SYN opens something
new, never by idle time. Keys are compared in full: two flows with equal hashes stay two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import odd
from netwatch.capture.files.frames import Ints
from netwatch.capture.files.packets import Packets, Words

# `packets`, `bytes`, `payload`, `flags`: of the low end and of the high end. `index`: number of
# the first packet in the file. `opener`: which end sent the SYN that opens the row (0 low, 1 high,
# -1 none did), and `isn` its sequence number. `first_from`: which end sent the first packet.
ROW = np.dtype(
    [
        ("hash", "u8"),
        ("low_0", "u8"),
        ("low_1", "u8"),
        ("high_0", "u8"),
        ("high_1", "u8"),
        ("ports", "u8"),
        ("meta", "u8"),
        ("packets", "i8", 2),
        ("bytes", "i8", 2),
        ("payload", "i8", 2),
        ("first", "i8"),
        ("last", "i8"),
        ("index", "i8"),
        ("isn", "u4"),
        ("flags", "u1", 2),
        ("opener", "i1"),
        ("first_from", "u1"),
    ]
)
KEY = ("low_0", "low_1", "high_0", "high_1", "ports", "meta")
Rows = npt.NDArray[np.void]

# The packets that are sorted at once: their place fits 16 bits, and their columns fit the cache.
CHUNK = 1 << 15
_PLACE = np.uint64(0xFFFF)
_MIX = tuple(
    np.uint64(n)
    for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
)
_OPENING = odd.SYN
_SHIFT_HIGH, _SHIFT_LOW = np.uint64(32), np.uint64(29)


@dataclass(frozen=True, slots=True)
class Grouped:
    """The rows of a chunk; `order` sorts its packets by row, `row` says which one each is in."""

    rows: Rows
    order: Ints
    row: Ints


def group(packets: Packets, when: Ints, base: int) -> Grouped:
    """Add up the packets of one chunk. `when` is by ordinal; `base` is the ordinal 0's number."""
    mixed = _hash(packets.key)
    order = _sorted(mixed, packets.ordinal)
    opens = (packets.flags[order] & _OPENING) != 0
    cut = opens.copy()
    cut[0] = True
    for column in packets.key:
        mine = column[order]
        cut[1:] |= mine[1:] != mine[:-1]
    starts = np.flatnonzero(cut)
    rows = np.zeros(len(starts), dtype=ROW)
    first = order[starts]
    rows["hash"] = mixed[first]
    _write_key(rows, [column[first] for column in packets.key])
    low = packets.from_low[order]
    _add(rows, packets, order, starts, low)
    ordinal = packets.ordinal[order]
    times = when[ordinal]
    rows["first"] = np.minimum.reduceat(times, starts)
    rows["last"] = np.maximum.reduceat(times, starts)
    rows["index"] = ordinal[starts] + base
    rows["isn"] = packets.seq[first]
    rows["first_from"] = ~low[starts]
    rows["opener"] = np.where(opens[starts], rows["first_from"].astype(np.int8), -1)
    return Grouped(rows, order, np.cumsum(cut) - 1)


def _write_key(rows: Rows, key: Sequence[Words]) -> None:
    if len(key) == len(KEY):
        for name, column in zip(KEY, key, strict=True):
            rows[name] = column
        return
    low, high, rows["meta"] = key
    rows["low_1"], rows["high_1"] = low >> 16, high >> 16
    rows["ports"] = (low & _PLACE) << 16 | high & _PLACE


def _add(
    rows: Rows, packets: Packets, order: Ints, starts: Ints, low: npt.NDArray[np.bool_]
) -> None:
    from_low = low.astype(np.int64)
    count = np.diff(starts, append=len(order))
    rows["packets"][:, 0] = np.add.reduceat(from_low, starts)
    rows["packets"][:, 1] = count - rows["packets"][:, 0]
    for name, column in (("bytes", packets.length), ("payload", packets.payload)):
        values = column[order]
        rows[name][:, 0] = np.add.reduceat(values * from_low, starts)
        rows[name][:, 1] = np.add.reduceat(values, starts) - rows[name][:, 0]
    flags = packets.flags[order]
    rows["flags"][:, 0] = np.bitwise_or.reduceat(np.where(low, flags, 0), starts)
    rows["flags"][:, 1] = np.bitwise_or.reduceat(np.where(low, 0, flags), starts)


def _sorted(mixed: Words, ordinal: Ints) -> Ints:
    """By hash, then by place in the file; one sort of one word per packet."""
    packed = (mixed & ~_PLACE) | ordinal.astype(np.uint64)
    packed.sort()
    place = np.empty(int(ordinal.max()) + 1, dtype=np.int64)
    place[ordinal] = np.arange(len(ordinal))
    order: Ints = place[packed & _PLACE]
    return order


def _hash(key: Sequence[Words]) -> Words:
    """Well mixed, so that sorting seldom meets equal hashes of unequal keys; never trusted."""
    mixed = key[0] * _MIX[0]
    for number, column in enumerate(key[1:], start=1):
        mixed ^= mixed >> (_SHIFT_HIGH if number % 2 else _SHIFT_LOW)
        mixed += column
        mixed *= _MIX[number % 4]
    mixed ^= mixed >> _SHIFT_HIGH
    mixed *= _MIX[1]
    mixed ^= mixed >> _SHIFT_LOW
    return mixed


def merge(rows: Rows) -> tuple[Rows, Ints]:
    """Join stretches of the same connection. Rows of one key must come in the order of the file.

    Returns the connections, and for each given row the number of its connection.
    """
    if not len(rows):
        return rows, np.zeros(0, dtype=np.int64)
    order = np.argsort(rows["hash"], kind="stable")
    same = _same_key(rows, order)
    if (~same & (rows["hash"][order[1:]] == rows["hash"][order[:-1]])).any():
        order = np.lexsort([rows["index"], *(rows[name] for name in KEY)])
        same = _same_key(rows, order)
    found = rows[order]
    new = np.ones(len(found), dtype=bool)
    opener = _last_opener(found, same)
    new[1:] = ~same | _begins(found, opener)
    starts = np.flatnonzero(new)
    merged = found[starts]
    for name in ("packets", "bytes", "payload"):
        merged[name] = np.add.reduceat(found[name], starts, axis=0)
    merged["flags"] = np.bitwise_or.reduceat(found["flags"], starts, axis=0)
    merged["first"] = np.minimum.reduceat(found["first"], starts)
    merged["last"] = np.maximum.reduceat(found["last"], starts)
    last = opener[np.append(starts[1:], len(found)) - 1]
    late = (merged["opener"] < 0) & (last >= starts)
    merged["opener"][late], merged["isn"][late] = (
        found["opener"][last[late]],
        found["isn"][last[late]],
    )
    number = np.empty(len(rows), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return merged, number


def _same_key(rows: Rows, order: Ints) -> npt.NDArray[np.bool_]:
    """For each row in order but the first: whether its key is that of the row before."""
    same = np.ones(len(order) - 1, dtype=bool)
    for name in KEY:
        column = rows[name][order]
        same &= column[1:] == column[:-1]
    return same


def _last_opener(found: Rows, same: npt.NDArray[np.bool_]) -> Ints:
    """For each row: the last row of its key up to here that opens, or else the key's first."""
    marked = found["opener"] >= 0
    marked[0] = True
    marked[1:] |= ~same
    return np.maximum.accumulate(np.where(marked, np.arange(len(found)), 0))


def _begins(found: Rows, opener: Ints) -> npt.NDArray[np.bool_]:
    """For each row but the first: whether its SYN opens another connection than the row before's.

    It does not if it repeats the SYN before it, if both ends send one at the same time, or if it
    was only captured after its answer.
    """
    row, before, last = found[1:], found[:-1], found[opener[:-1]]
    repeated = (row["opener"] == last["opener"]) & (row["isn"] == last["isn"])
    sent = before["flags"][:, 0] | before["flags"][:, 1]
    simultaneous = (last["opener"] == 1 - row["opener"]) & (sent == odd.SYN)
    late = (last["opener"] < 0) & ((sent & (0xFF ^ odd.SYNACK ^ odd.ACK)) == 0)
    late &= ((sent & odd.SYNACK) != 0) & (before["packets"].sum(axis=1) <= 3)
    begins: npt.NDArray[np.bool_] = (row["opener"] >= 0) & ~(repeated | simultaneous | late)
    return begins

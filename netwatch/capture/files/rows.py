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
from netwatch.capture.files.frames import Ints, taken
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

# The packets that are sorted at once: their place fits 15 bits, and their columns fit the cache.
CHUNK = 1 << 15
_PLACE = np.uint32(CHUNK - 1)
_PORT, _PORT_BITS = np.uint64(0xFFFF), np.uint64(16)
_MIX = tuple(
    np.uint64(n)
    for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
)
_OPENING = odd.SYN
# Beside the flags, of which there are seven at most.
_SENT, _HIGH = np.uint16(0x80), np.uint16(8)
# Connections are dealt out by their hash, so that several processes can share a file; whatever is
# decided by how much is there is decided for each share by itself, as the answer must be the same
# however many processes there are. With more of them each would do little but read.
SHARES = 4
_SHIFT_HIGH, _SHIFT_LOW, _SHIFT_SORTED = np.uint64(32), np.uint64(29), np.uint64(17)


@dataclass(frozen=True, slots=True)
class Grouped:
    """The rows of a chunk; `order` sorts its packets by row, `count` is how many each row has."""

    rows: Rows
    order: Ints
    count: Ints


def share(mixed: Words) -> Ints:
    """The share that each hash belongs to."""
    return (mixed >> _SHIFT_HIGH).astype(np.int64) % SHARES


def group(packets: Packets, mixed: Words, when: Ints, base: int) -> Grouped:
    """Add up the packets of one chunk, whose `hashes` are `mixed`.

    `when` is by ordinal; `base` is the ordinal 0's number.
    """
    order = _sorted(mixed, packets.ordinal)
    said = _said(packets).take(order)
    opens = (said & (_OPENING << _HIGH | _OPENING)) != 0
    cut = opens.copy()
    cut[0] = True
    for column in packets.key:
        mine = column.take(order)
        cut[1:] |= mine[1:] != mine[:-1]
    starts = np.flatnonzero(cut)
    rows = np.zeros(len(starts), dtype=ROW)
    first = order[starts]
    rows["hash"] = mixed[first]
    _write_key(rows, [column[first] for column in packets.key])
    count = np.append(starts[1:], len(order)) - starts
    low = (said & _SENT) != 0
    _add(rows, packets, order, starts, low)
    rows["packets"][:, 1] = count - rows["packets"][:, 0]
    ends = np.bitwise_or.reduceat(said, starts)
    rows["flags"][:, 0], rows["flags"][:, 1] = ends & (_SENT - 1), ends >> _HIGH & (_SENT - 1)
    rows["first"], rows["last"] = _span(when, packets.ordinal, order, starts)
    rows["index"] = packets.ordinal[first] + base
    rows["isn"] = packets.seq[first]
    rows["first_from"] = ~low[starts]
    rows["opener"] = np.where(opens[starts], rows["first_from"].astype(np.int8), -1)
    return Grouped(rows, order, count)


def _said(packets: Packets) -> npt.NDArray[np.uint16]:
    """The flags of each packet with _SENT, shifted by _HIGH if they are the high end's: what both
    ends of a row said is one number.
    """
    sent = packets.flags.astype(np.uint16) | _SENT
    return sent << (~packets.from_low).astype(np.uint16) * _HIGH


def _span(when: Ints, ordinal: Ints, order: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """When the first and the last packet of each row came."""
    if (when[1:] >= when[:-1]).all():
        last = order[np.append(starts[1:], len(order)) - 1]
        return when[ordinal[order[starts]]], when[ordinal[last]]
    times = when[ordinal[order]]
    return np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts)


def _write_key(rows: Rows, key: Sequence[Words]) -> None:
    if len(key) == len(KEY):
        for name, column in zip(KEY, key, strict=True):
            rows[name] = column
        return
    low, high, rows["meta"] = key
    rows["low_1"], rows["high_1"] = low >> _PORT_BITS, high >> _PORT_BITS
    rows["ports"] = (low & _PORT) << _PORT_BITS | high & _PORT


def _add(
    rows: Rows, packets: Packets, order: Ints, starts: Ints, low: npt.NDArray[np.bool_]
) -> None:
    from_low = low.astype(np.int64)
    rows["packets"][:, 0] = np.add.reduceat(from_low, starts)
    for name, column in (("bytes", packets.length), ("payload", packets.payload)):
        values = column.take(order)
        rows[name][:, 0] = np.add.reduceat(values * from_low, starts)
        rows[name][:, 1] = np.add.reduceat(values, starts) - rows[name][:, 0]


def _sorted(mixed: Words, ordinal: Ints) -> Ints:
    """By the bits of the hash that have room (those of the share among them), then by place in the
    file: one sort of one short word per packet. Equal bits only cut rows in two.
    """
    packed = (mixed >> _SHIFT_SORTED).astype(np.uint32) & ~_PLACE
    if (ordinal[1:] > ordinal[:-1]).all():
        packed |= np.arange(len(mixed), dtype=np.uint32)
        packed.sort()
        return (packed & _PLACE).astype(np.int64)
    packed |= ordinal.astype(np.uint32)
    packed.sort()
    place = np.empty(int(ordinal.max()) + 1, dtype=np.int64)
    place[ordinal] = np.arange(len(ordinal))
    return place.take(packed & _PLACE)


def hashes(key: Sequence[Words]) -> Words:
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

    Returns the connections in the order of their first packets, and for each given row the number
    of its connection.
    """
    order, starts, joined = _joined(rows)
    first = np.arange(len(rows))
    first[order] = np.repeat(order[starts], np.diff(starts, append=len(order)))
    kept = np.flatnonzero(first == np.arange(len(rows)))
    kept = kept[np.argsort(rows["index"][kept])]
    number = np.empty_like(first)
    number[kept] = np.arange(len(kept))
    merged = taken(rows, kept)
    whole = np.dtype((np.void, ROW.itemsize))
    merged.view(whole)[number[order[starts]]] = joined.view(whole)
    return merged, number[first]


def _joined(rows: Rows) -> tuple[Ints, Ints, Rows]:
    """Rows that have something in common, in the order of their connections; where in this order
    a connection starts; and the connections.
    """
    order = _alike(rows)
    order = order[np.argsort(rows["hash"][order], kind="stable")]
    found = taken(rows, order)
    if not len(order):
        return order, order, found
    same = _same_key(found)
    if (~same & (found["hash"][1:] == found["hash"][:-1])).any():
        by_key = np.lexsort([order, *(found[name] for name in KEY)])
        order, found = order[by_key], taken(found, by_key)
        same = _same_key(found)
    opener = _last_opener(found, same)
    new = np.ones(len(found), dtype=bool)
    new[1:] = ~same | _begins(found, opener)
    starts = np.flatnonzero(new)
    return order, starts, _added(found, starts, opener)


def _alike(rows: Rows) -> Ints:
    """Those that have a hash like another's, most of the time few; alike ones in the order given.

    The lowest bits of the hash give way to the place, as sorting single words is fast.
    """
    place = np.uint64((1 << len(rows).bit_length()) - 1)
    packed = (rows["hash"] & ~place) | np.arange(len(rows), dtype=np.uint64)
    packed.sort()
    alike = np.zeros(len(rows) + 1, dtype=bool)
    alike[1:-1] = packed[1:] ^ packed[:-1] <= place
    return (packed[alike[1:] | alike[:-1]] & place).view(np.int64)


def _added(found: Rows, starts: Ints, opener: Ints) -> Rows:
    """What begins at `starts`, with all that follows until the next."""
    merged = taken(found, starts)
    for side in (0, 1):
        for name in ("packets", "bytes", "payload"):
            merged[name][:, side] = np.add.reduceat(found[name][:, side], starts)
        merged["flags"][:, side] = np.bitwise_or.reduceat(found["flags"][:, side], starts)
    merged["first"] = np.minimum.reduceat(found["first"], starts)
    merged["last"] = np.maximum.reduceat(found["last"], starts)
    last = opener[np.append(starts[1:], len(found)) - 1]
    late = (merged["opener"] < 0) & (last >= starts)
    merged["opener"][late], merged["isn"][late] = (
        found["opener"][last[late]],
        found["isn"][last[late]],
    )
    return merged


def together(parts: Sequence[Rows]) -> Rows:
    """All rows, one part behind the other."""
    return np.concatenate([part.view(np.uint64) for part in parts]).view(ROW)


def _same_key(found: Rows) -> npt.NDArray[np.bool_]:
    """For each row but the first: whether its key is that of the row before."""
    same = np.ones(len(found) - 1, dtype=bool)
    for name in KEY:
        column = found[name]
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
    begins: npt.NDArray[np.bool_] = found["opener"][1:] >= 0
    place = np.flatnonzero(begins)
    row, before, last = (taken(found, at) for at in (place + 1, place, opener[place]))
    repeated = (row["opener"] == last["opener"]) & (row["isn"] == last["isn"])
    sent = before["flags"][:, 0] | before["flags"][:, 1]
    simultaneous = (last["opener"] == 1 - row["opener"]) & (sent == odd.SYN)
    late = (last["opener"] < 0) & ((sent & (0xFF ^ odd.SYNACK ^ odd.ACK)) == 0)
    late &= ((sent & odd.SYNACK) != 0) & (before["packets"].sum(axis=1) <= 3)
    begins[place] = ~(repeated | simultaneous | late)
    return begins

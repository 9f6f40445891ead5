"""Frames to packets: addresses, ports, lengths and flags, one array each.

Regular packets (IPv4 without options, IPv6 without extension headers, no fragment, TCP, UDP or
ICMP with its whole header captured) are read by gathering their headers, and those field by field.
All others go through `odd`, one by one, and end in the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import link, odd, overlays, tunnels
from netwatch.capture.files.frames import HEAD, Frames, Ints, gathered, taken

Words = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Packets:
    """Packets of one IP version in the order of the file, except that `ordinal` (position in it)
    need not ascend.

    `key` is canonical, its first half about the end with the smaller (address, port), `low`. IPv4:
    `address << 16 | port` of both ends and `meta`. IPv6: both addresses as two halves each, the
    ports as low << 16 | high, and `meta`. `meta` is version << 56 | protocol << 48 | path, with
    the path of `paths.Paths` or the tags of `link.Network`. Lengths: `length` is IP total length,
    `payload` that of the transport on the wire, of which `kept` bytes are in the buffer from
    `start` on.
    """

    key: tuple[Words, ...]
    from_low: npt.NDArray[np.bool_]
    flags: npt.NDArray[np.uint8]
    seq: npt.NDArray[np.uint32]
    length: Ints
    payload: Ints
    start: Ints
    kept: Ints
    ordinal: Ints

    def take(self, which: Ints) -> Packets:
        """Some of them."""
        rest = (getattr(self, each.name)[which] for each in fields(self)[1:])
        return Packets(tuple(column[which] for column in self.key), *rest)


# Both headers, of TCP up to its flags. UDP and ICMP are shorter; what tells echoes apart lies
# where TCP has the first half of its sequence number.
_TRANSPORT = [
    ("source_port", ">u2"),
    ("target_port", ">u2"),
    ("seq", ">u4"),
    ("ack", ">u4"),
    ("offset", "u1"),
    ("flags", "u1"),
]
_HEAD_4 = np.dtype(
    [
        ("shape", "u1"),
        ("class", "u1"),
        ("length", ">u2"),
        ("id", ">u2"),
        ("piece", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("sum", ">u2"),
        ("source", ">u4"),
        ("target", ">u4"),
        *_TRANSPORT,
    ]
)
_HEAD_6 = np.dtype(
    [
        ("shape", "u1"),
        ("class", "u1", 3),
        ("length", ">u2"),
        ("protocol", "u1"),
        ("hops", "u1"),
        ("source", ">u8", 2),
        ("target", ">u8", 2),
        *_TRANSPORT,
    ]
)
_HEADS = {tunnels.IP4: _HEAD_4, tunnels.IP6: _HEAD_6}
Heads = npt.NDArray[np.void]

_IP4_PLAIN = 0x45
# More fragments, and the offset of this one.
_PIECE = 0x3FFF
_SIXTEEN, _PROTOCOL = np.uint64(16), np.uint64(48)
_LOW_16 = np.uint64(0xFFFF)
_VERSION_4, _VERSION_6 = np.uint64(4 << 56), np.uint64(6 << 56)

# By protocol number: the bytes of all headers that must be there; more than any packet has for
# what is not regular.
_NEEDED_4 = np.full(256, 1 << 40, dtype=np.int64)
_NEEDED_4[[odd.TCP, odd.UDP, odd.ICMP]] = 40, 28, 28
_NEEDED_6 = np.full(256, 1 << 40, dtype=np.int64)
_NEEDED_6[[odd.TCP, odd.UDP, odd.ICMP6]] = 60, 48, 48

_TUNNELS = np.zeros(65536, dtype=bool)
_TUNNELS[list(tunnels.PORTS)] = True

_FLAGS = np.array([odd.flags(byte) for byte in range(256)], dtype=np.uint8)


def packets(frames: Frames, first: int, last: int, memory: odd.Memory) -> list[Packets]:
    """Read frames `first` to `last` (not included): the packets of IPv4, and those of IPv6."""
    part = slice(first, last)
    near, captured = frames.near[part], frames.captured[part]
    within = link.network(near[:, -HEAD:], captured, frames.link[part])
    where = link.Network(frames.offset[part] + within.start, within.kind, within.vlan)
    # The length on the wire counts where the header's does not (segmentation offload).
    remaining, wire = captured - within.start, frames.wire[part] - within.start
    parts: dict[int, list[Packets]] = {tunnels.IP4: [], tunnels.IP6: []}
    row = near.shape[1]
    begin = np.arange(row - HEAD, near.size, row) + within.start
    for kind, read in ((tunnels.IP4, _read_4), (tunnels.IP6, _read_6)):
        mine = np.flatnonzero(where.kind == kind)
        if len(mine):
            heads = _heads(near.reshape(-1), begin.take(mine), kind)
            parts[kind].append(read(heads, where, mine, remaining.take(mine), wire.take(mine)))
    regular = [each.ordinal for each in chain.from_iterable(parts.values())]
    if sum(map(len, regular)) < len(wire):
        rest = where.worth() & (remaining > 0)
        for ordinal in regular:
            rest[ordinal] = False
        for kind, found in _overlaid(frames.buffer, where, rest, (remaining, wire), memory):
            rest[found.ordinal] = False
            parts[kind].append(found)
        singles = _odd(frames, where, rest, (remaining, wire), memory)
        for kind, rows in singles.items():
            parts[kind].append(_from_rows(rows))
    return [_joined(each) for each in parts.values() if sum(len(one.ordinal) for one in each)]


def _joined(parts: Sequence[Packets]) -> Packets:
    parts = [part for part in parts if len(part.ordinal)]
    if len(parts) == 1:
        return parts[0]
    keys = zip(*(part.key for part in parts), strict=True)
    rest = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Packets)[1:])
    return Packets(tuple(np.concatenate(column) for column in keys), *rest)


def _overlaid(
    buffer: npt.NDArray[np.uint8],
    where: link.Network,
    rest: npt.NDArray[np.bool_],
    lengths: tuple[Ints, Ints],
    memory: odd.Memory,
) -> Iterator[tuple[int, Packets]]:
    """The regular packets in regular packets of overlay networks."""
    mine = np.flatnonzero(rest & (where.kind == tunnels.IP4))
    if not len(mine):
        return
    begin, remaining, wire = where.start[mine], lengths[0][mine], lengths[1][mine]
    words = gathered(buffer, begin, 8 * 7).view(">u8").T.astype(np.uint64, order="C")
    found = overlays.overlays(words, begin, mine, remaining, wire)
    for kind, read in ((tunnels.IP4, _read_4), (tunnels.IP6, _read_6)):
        some = found.take(np.flatnonzero(found.kind == kind))
        if not len(some.mine):
            continue
        start = where.start.copy()
        start[some.mine] = some.start
        inner = link.Network(start, where.kind, np.zeros_like(start))
        heads = _heads(buffer, some.start, kind)
        packets = read(heads, inner, some.mine, some.remaining, some.wire)
        if len(packets.ordinal):
            some = some.take(np.searchsorted(some.mine, packets.ordinal))
            vlan = where.vlan[packets.ordinal]
            packets.key[-1][:] |= overlays.paths(some, vlan, packets.from_low, memory.paths)
            yield kind, packets


_Row = tuple[tuple[int, ...], tuple[Any, ...]]


def _odd(
    frames: Frames,
    where: link.Network,
    rest: npt.NDArray[np.bool_],
    lengths: tuple[Ints, Ints],
    memory: odd.Memory,
) -> dict[int, list[_Row]]:
    """Packets read one by one, by ethertype: key and the other columns of `Packets`."""
    found: list[tuple[int, int, odd.Packet | None, tuple[bytes, int, int]]] = []
    places = np.flatnonzero(rest)
    columns = (places, *(each[places] for each in (where.start, where.kind, *lengths)))
    for index, begin, kind, remaining, wire in zip(*(c.tolist() for c in columns), strict=True):
        data = frames.buffer[begin : begin + remaining].tobytes()
        each = odd.packet(data, kind, wire, memory)
        if each is not None and each.lost:
            # Older stacks send the first fragment last: it may be among these packets.
            found.append((index, begin, None, (data, kind, wire)))
        elif each is not None:
            found.append((index, begin, each, (b"", 0, 0)))
    rows: dict[int, list[_Row]] = {tunnels.IP4: [], tunnels.IP6: []}
    for index, begin, known, again in found:
        each = known or odd.packet(*again, memory)
        if each is not None:
            version = tunnels.IP4 if len(each.source) == 4 else tunnels.IP6
            rows[version].append(_row(frames, each, index, begin, int(where.vlan[index]), memory))
    return {version: each for version, each in rows.items() if each}


def _row(
    frames: Frames, found: odd.Packet, index: int, begin: int, tags: int, memory: odd.Memory
) -> _Row:
    source, target = (found.source, found.source_port), (found.target, found.target_port)
    low, high = min(source, target), max(source, target)
    version = 4 if len(found.source) == 4 else 6
    path = tags
    if found.layers or found.vlan:
        vlan = memory.paths.vlan(tags) + found.vlan
        path = memory.paths.number(vlan, found.layers, from_low=source == low)
    meta = version << 56 | found.protocol << 48 | path
    start, kept = begin + found.start, found.kept
    if found.whole:
        start, kept = frames.put_aside(found.whole)
    ends = [int.from_bytes(end[0], "big") for end in (low, high)]
    half = (1 << 64) - 1
    key: tuple[int, ...]
    if version == 4:
        key = (ends[0] << 16 | low[1], ends[1] << 16 | high[1], meta)
    else:
        halves = (ends[0] >> 64, ends[0] & half, ends[1] >> 64, ends[1] & half)
        key = (*halves, low[1] << 16 | high[1], meta)
    lengths = found.length, found.payload, start, kept
    return key, (source == low, found.flags, found.seq, *lengths, index)


def _from_rows(rows: list[_Row]) -> Packets:
    kinds: list[Any] = [np.bool_, np.uint8, np.uint32] + [np.int64] * 5
    keys = tuple(
        np.array(column, dtype=np.uint64) for column in zip(*(key for key, _ in rows), strict=True)
    )
    columns = zip(*(rest for _, rest in rows), strict=True)
    return Packets(
        keys, *(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True))
    )


def _heads(buffer: npt.NDArray[np.uint8], start: Ints, kind: int) -> Heads:
    """What may be both headers, from each start on."""
    head = _HEADS[kind]
    return gathered(buffer, start, head.itemsize).view(head)[:, 0]


def _read_4(heads: Heads, where: link.Network, mine: Ints, remaining: Ints, wire: Ints) -> Packets:
    length = heads["length"].astype(np.int64)
    if not length.all():
        np.copyto(length, wire, where=length == 0)
    number = heads["protocol"].copy()
    needed = _NEEDED_4.take(number)
    good = np.minimum(remaining, length) >= needed
    good &= heads["shape"] == _IP4_PLAIN
    good &= (heads["piece"] & _PIECE) == 0
    beyond = np.flatnonzero(length > wire)
    if len(beyond):
        good[beyond] &= _sound(taken(heads, beyond))
    good[_tunnelled(heads, number)] = False
    if not good.all():
        kept = np.flatnonzero(good)
        heads, number, needed = taken(heads, kept), number[kept], needed[kept]
        mine, remaining, length = mine[kept], remaining[kept], length[kept]
    source, target = (
        heads[end].astype(np.uint64) << _SIXTEEN | heads[f"{end}_port"].astype(np.uint64)
        for end in ("source", "target")
    )
    flags, total = _headers(heads, number, needed, length, 20)
    control = np.flatnonzero(number == odd.ICMP)
    if len(control):
        echo, ask = _echo(taken(heads, control), 8, 0)
        source[control] = source[control] & ~_LOW_16 | echo
        target[control] = target[control] & ~_LOW_16 | echo
        flags[control] = np.where(ask, odd.OPENS, 0)
    low = np.minimum(source, target)
    return Packets(
        (low, np.maximum(source, target), _meta(_VERSION_4, number, where.vlan, mine)),
        source == low,
        flags,
        heads["seq"].astype(np.uint32),
        length,
        *_extent(where.start.take(mine), total, length, remaining),
        mine,
    )


def _read_6(heads: Heads, where: link.Network, mine: Ints, remaining: Ints, wire: Ints) -> Packets:
    length = heads["length"].astype(np.int64) + 40
    np.copyto(length, wire, where=length == 40)
    number = heads["protocol"].copy()
    needed = _NEEDED_6.take(number)
    good = np.minimum(remaining, length) >= needed
    good &= heads["shape"] >> 4 == 6
    good[_tunnelled(heads, number)] = False
    if not good.all():
        kept = np.flatnonzero(good)
        heads, number, needed = taken(heads, kept), number[kept], needed[kept]
        mine, remaining, length = mine[kept], remaining[kept], length[kept]
    ports = [heads[f"{end}_port"].astype(np.uint64) for end in ("source", "target")]
    flags, total = _headers(heads, number, needed, length, 40)
    control = np.flatnonzero(number == odd.ICMP6)
    if len(control):
        echo, ask = _echo(taken(heads, control), 128, 129)
        ports[0][control] = ports[1][control] = echo
        flags[control] = np.where(ask, odd.OPENS, 0)
    source, target = (heads[end].astype(np.uint64).T for end in ("source", "target"))
    from_low = ports[0] <= ports[1]
    for one, other in ((source[1], target[1]), (source[0], target[0])):
        from_low = (one < other) | ((one == other) & from_low)
    return Packets(
        (
            *np.where(from_low, source, target),
            *np.where(from_low, target, source),
            np.where(from_low, ports[0] << _SIXTEEN | ports[1], ports[1] << _SIXTEEN | ports[0]),
            _meta(_VERSION_6, number, where.vlan, mine),
        ),
        from_low,
        flags,
        heads["seq"].astype(np.uint32),
        length,
        *_extent(where.start.take(mine), total, length, remaining),
        mine,
    )


def _tunnelled(heads: Heads, number: npt.NDArray[np.uint8]) -> Ints:
    """Those that may hold another packet, and are read one by one."""
    datagrams = np.flatnonzero(number == odd.UDP)
    return datagrams[_TUNNELS.take(heads["target_port"][datagrams])]


def _sound(heads: Heads) -> npt.NDArray[np.bool_]:
    """Whether the checksums of headers without options are right; `odd` says why it is asked."""
    words = heads.view(">u2").reshape(len(heads), heads.itemsize // 2)[:, :10]
    sound: npt.NDArray[np.bool_] = (words.sum(axis=1) % 0xFFFF == 0) | (heads["sum"] == 0)
    return sound


def _echo(heads: Heads, ask: int, answer: int) -> tuple[Words, npt.NDArray[np.bool_]]:
    """What tells echoes apart, 0 for all else of ICMP; and which of them ask."""
    kind = heads["source_port"] >> 8
    echo = (heads["seq"] >> 16).astype(np.uint64)
    echo[(kind != ask) & (kind != answer)] = 0
    return echo, kind == ask


def _meta(version: np.uint64, number: npt.NDArray[np.uint8], vlan: Ints, mine: Ints) -> Words:
    meta: Words = number.astype(np.uint64) << _PROTOCOL | version
    return meta | vlan.take(mine).astype(np.uint64) if vlan.any() else meta


def _headers(
    heads: Heads, number: npt.NDArray[np.uint8], needed: Ints, length: Ints, network: int
) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Flags, and the length of all headers."""
    tcp = number == odd.TCP
    flags = _FLAGS.take(heads["flags"]) * tcp
    total = ((heads["offset"] >> 2 & 0x3C) * tcp).astype(np.int64)
    total += network
    # A data offset that can not be counts as the least and the most that can.
    np.maximum(total, needed, out=total)
    np.minimum(total, length, out=total)
    return flags, total


def _extent(start: Ints, total: Ints, length: Ints, remaining: Ints) -> tuple[Ints, Ints, Ints]:
    """Payload length, where the payload starts, and how much of it was captured."""
    payload = length - total
    kept = np.minimum(remaining - total, payload)
    return payload, start + total, np.maximum(kept, 0, out=kept)

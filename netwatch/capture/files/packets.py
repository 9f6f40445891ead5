"""Frames to packets: addresses, ports, lengths and flags, one array each.

Regular packets (IPv4 without options, IPv6 without extension headers, no fragment, TCP, UDP or
ICMP with its whole header captured) are read by gathering one row of words each. All others go
through `odd`, one by one, and end in the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import link, odd, overlays, tunnels
from netwatch.capture.files.frames import Frames, Ints, gathered

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

    def take(self, which: npt.NDArray[np.bool_]) -> Packets:
        """Some of them."""
        rest = (getattr(self, each.name)[which] for each in fields(self)[1:])
        return Packets(tuple(column[which] for column in self.key), *rest)


_LOW_32, _LOW_16 = np.uint64(0xFFFFFFFF), np.uint64(0xFFFF)
_PROTOCOL = np.uint64(0xFF << 48)
# In the first word: version and header length, more fragments and the offset of this one.
_SHAPE_4, _REGULAR_4 = np.uint64(0xFF00000000003FFF), np.uint64(0x45 << 56)
_VERSION_4, _VERSION_6 = np.uint64(4 << 56), np.uint64(6 << 56)

# By protocol number: the bytes of all headers that must be there; more than any packet has for
# what is not regular.
_NEEDED_4 = np.full(256, 1 << 40, dtype=np.int64)
_NEEDED_4[[odd.TCP, odd.UDP, odd.ICMP]] = 40, 28, 28
_NEEDED_6 = np.full(256, 1 << 40, dtype=np.int64)
_NEEDED_6[[odd.TCP, odd.UDP, odd.ICMP6]] = 60, 48, 48

_TUNNELS = np.zeros(65536, dtype=bool)
_TUNNELS[list(tunnels.PORTS)] = True

# Words of both headers, without options and what TCP has behind its flags.
_COUNT = {tunnels.IP4: 5, tunnels.IP6: 7}

_FLAGS = np.array([odd.flags(byte) for byte in range(256)], dtype=np.uint8)


def packets(frames: Frames, first: int, last: int, memory: odd.Memory) -> list[Packets]:
    """Read frames `first` to `last` (not included): the packets of IPv4, and those of IPv6."""
    part = slice(first, last)
    offset, captured = frames.offset[part], frames.captured[part]
    head = frames.head[part]
    near = link.network(frames.near, head, captured, frames.link[part])
    where = replace(near, start=near.start + (offset - head))
    remaining = offset + captured - where.start
    # The length on the wire counts where the header's does not (segmentation offload).
    wire = frames.wire[part] - (where.start - offset)
    rest = where.worth & (remaining > 0)
    parts: dict[int, list[Packets]] = {tunnels.IP4: [], tunnels.IP6: []}
    for kind, read in ((tunnels.IP4, _read_4), (tunnels.IP6, _read_6)):
        mine = np.flatnonzero(where.kind == kind)
        if len(mine):
            words = _words(frames.near, near.start[mine], _COUNT[kind])
            found = read(words, where, mine, remaining[mine], wire[mine])
            rest[found.ordinal] = False
            parts[kind].append(found)
    for kind, found in _overlaid(frames.buffer, where, rest, (remaining, wire), memory):
        rest[found.ordinal] = False
        parts[kind].append(found)
    if rest.any():
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
    words = _words(buffer, begin, 7)
    found = overlays.overlays(words, begin, mine, remaining, wire)
    for kind, read in ((tunnels.IP4, _read_4), (tunnels.IP6, _read_6)):
        some = found.take(np.flatnonzero(found.kind == kind))
        if not len(some.mine):
            continue
        start = where.start.copy()
        start[some.mine] = some.start
        inner = link.Network(start, where.kind, np.zeros_like(start), where.worth)
        words = _words(buffer, some.start, _COUNT[kind])
        packets = read(words, inner, some.mine, some.remaining, some.wire)
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


def _words(buffer: npt.NDArray[np.uint8], start: Ints, count: int) -> Words:
    """The `count` words of 8 bytes from each start on, as `count` rows of numbers."""
    rows = gathered(buffer, start, 8 * count).view(">u8").reshape(len(start), count)
    return rows.T.astype(np.uint64, order="C")


def _read_4(words: Words, where: link.Network, mine: Ints, remaining: Ints, wire: Ints) -> Packets:
    length = _index(words[0] >> 32 & _LOW_16)
    if not length.all():
        np.copyto(length, wire, where=length == 0)
    needed = _NEEDED_4[_index(words[1] >> 48 & 0xFF)]
    good = np.minimum(remaining, length) >= needed
    good &= (words[0] & _SHAPE_4) == _REGULAR_4
    beyond = np.flatnonzero(length > wire)
    if len(beyond):
        good[beyond] &= _sound(words[:, beyond])
    # What may hold another packet is read one by one.
    number = words[1] & _PROTOCOL
    good &= ~(_TUNNELS[_index(words[2] & _LOW_16)] & (number == odd.UDP << 48))
    if not good.all():
        words, mine, needed = words[:, good], mine[good], needed[good]
        remaining, length, number = remaining[good], length[good], number[good]
    source = (words[1] & _LOW_32) << 16 | (words[2] >> 16) & _LOW_16
    target = (words[2] >> 32) << 16 | words[2] & _LOW_16
    flags, total = _headers(number, words[4], needed, length, 20)
    control = np.flatnonzero(number == odd.ICMP << 48)
    if len(control):
        kind, echo = (words[2][control] >> 24).astype(np.uint8), words[3][control] >> 48
        ask = kind == 8
        echo[~ask & (kind != 0)] = 0
        source[control] = source[control] & ~_LOW_16 | echo
        target[control] = target[control] & ~_LOW_16 | echo
        flags[control] = np.where(ask, odd.OPENS, 0)
    low, high = np.minimum(source, target), np.maximum(source, target)
    meta = _VERSION_4 | number | where.vlan[mine].astype(np.uint64)
    return Packets(
        (low, high, meta),
        source == low,
        flags,
        (words[3] >> 32).astype(np.uint32),
        length,
        *_extent(where.start[mine], total, length, remaining),
        mine,
    )


def _index(words: npt.NDArray[np.integer[Any]]) -> Ints:
    """Small numbers as what numpy takes for an index, without a copy."""
    return words.view(np.int64)


def _sound(words: Words) -> npt.NDArray[np.bool_]:
    """Whether the checksums of headers without options are right; `odd` says why it is asked."""
    total = np.zeros(words.shape[1], dtype=np.uint64)
    for word in (words[0], words[1], words[2] >> 32):
        for shift in (0, 16, 32, 48):
            total += word >> shift & _LOW_16
    sound: npt.NDArray[np.bool_] = (total % _LOW_16 == 0) | (words[1] >> 32 & _LOW_16 == 0)
    return sound


def _read_6(words: Words, where: link.Network, mine: Ints, remaining: Ints, wire: Ints) -> Packets:
    length = _index(words[0] >> 16 & _LOW_16) + 40
    np.copyto(length, wire, where=length == 40)
    needed = _NEEDED_6[_index(words[0] >> 8 & 0xFF)]
    good = (np.minimum(remaining, length) >= needed) & (words[0] >> 60 == 6)
    good &= ~(_TUNNELS[_index(words[5] >> 32 & _LOW_16)] & ((words[0] >> 8 & 255) == odd.UDP))
    if not good.all():
        words, mine, needed = words[:, good], mine[good], needed[good]
        remaining, length = remaining[good], length[good]
    number = words[0] << 40 & _PROTOCOL
    ports = words[5] >> 48, words[5] >> 32 & _LOW_16
    flags, total = _headers(number, words[6] << 32, needed, length, 40)
    control = np.flatnonzero(number == odd.ICMP6 << 48)
    if len(control):
        kind, echo = words[5][control] >> 56, words[5][control] >> 16 & _LOW_16
        ask = kind == 128
        echo[~ask & (kind != 129)] = 0
        ports[0][control] = ports[1][control] = echo
        flags[control] = np.where(ask, odd.OPENS, 0)
    from_low = ports[0] <= ports[1]
    for one, other in ((words[2], words[4]), (words[1], words[3])):
        from_low = (one < other) | ((one == other) & from_low)
    meta = _VERSION_6 | number | where.vlan[mine].astype(np.uint64)
    return Packets(
        (
            np.where(from_low, words[1], words[3]),
            np.where(from_low, words[2], words[4]),
            np.where(from_low, words[3], words[1]),
            np.where(from_low, words[4], words[2]),
            np.where(from_low, ports[0] << 16 | ports[1], ports[1] << 16 | ports[0]),
            meta,
        ),
        from_low,
        flags,
        words[5].astype(np.uint32),
        length,
        *_extent(where.start[mine], total, length, remaining),
        mine,
    )


def _headers(
    number: Words, word: Words, needed: Ints, length: Ints, network: int
) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Flags, and the length of all headers; `word` has those of TCP at its top."""
    tcp = number == odd.TCP << 48
    flags = _FLAGS[_index(word >> 48 & 0xFF)] * tcp
    total = _index(word >> 58 & 0x3C) * tcp
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

"""Frames to packets: addresses, ports, lengths and flags, one array each.

Regular packets (IPv4 without options, IPv6 without extension headers, no fragment, TCP, UDP or
ICMP with its whole header captured) are read by gathering one row of bytes each. All others go
through `odd`, one by one, and end in the same arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import link, odd
from netwatch.capture.files.frames import Frames, Ints

Words = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Packets:
    """Packets in the order of the file, except that `ordinal` (position in it) need not ascend.

    The key is canonical: the end with the smaller (address, port) is `low`; addresses are two
    halves, IPv4 as ::ffff:a.b.c.d. `ports` is low << 16 | high; `meta` is version << 56 |
    protocol << 48 | VLAN tags. Lengths: `length` is IP total length, `payload` that of the
    transport on the wire, of which `kept` bytes are in the buffer from `start` on.
    """

    low_0: Words
    low_1: Words
    high_0: Words
    high_1: Words
    ports: Words
    meta: Words
    from_low: npt.NDArray[np.bool_]
    flags: npt.NDArray[np.uint8]
    seq: npt.NDArray[np.uint32]
    length: Ints
    payload: Ints
    start: Ints
    kept: Ints
    ordinal: Ints


_ROW = 64
_LAYOUT_4 = np.dtype(
    {
        "names": ["first", "length", "fragment", "protocol", "source", "target"]
        + ["source_port", "target_port", "seq", "offset", "flags", "type", "echo"],
        "formats": ["u1", ">u2", ">u2", "u1", ">u4", ">u4"]
        + [">u2", ">u2", ">u4", "u1", "u1", "u1", ">u2"],
        "offsets": [0, 2, 6, 9, 12, 16, 20, 22, 24, 32, 33, 20, 24],
        "itemsize": _ROW,
    }
)
_LAYOUT_6 = np.dtype(
    {
        "names": ["first", "length", "protocol", "source_0", "source_1", "target_0", "target_1"]
        + ["source_port", "target_port", "seq", "offset", "flags", "type", "echo"],
        "formats": ["u1", ">u2", "u1", ">u8", ">u8", ">u8", ">u8"]
        + [">u2", ">u2", ">u4", "u1", "u1", "u1", ">u2"],
        "offsets": [0, 4, 6, 8, 16, 24, 32, 40, 42, 44, 52, 53, 40, 44],
        "itemsize": _ROW,
    }
)
_FRAGMENT = 0x3FFF  # more fragments, and the offset
_MAPPED = np.uint64(0xFFFF << 32)

# By protocol number: the length of the transport header that must be there; 0: not regular.
_NEEDED_4 = np.zeros(256, dtype=np.int64)
_NEEDED_4[[odd.TCP, odd.UDP, odd.ICMP]] = 20, 8, 8
_NEEDED_6 = np.zeros(256, dtype=np.int64)
_NEEDED_6[[odd.TCP, odd.UDP, odd.ICMP6]] = 20, 8, 8

_FLAGS = np.array([odd.flags(byte) for byte in range(256)], dtype=np.uint8)


def packets(frames: Frames, first: int, last: int, fragments: odd.Fragments) -> Packets | None:
    """Read frames `first` to `last` (not included); None if no IP packet is among them."""
    part = slice(first, last)
    offset, captured = frames.offset[part], frames.captured[part]
    where = link.network(frames.buffer, offset, captured, frames.link[part])
    remaining = offset + captured - where.start
    # The length on the wire counts where the header's does not (segmentation offload).
    wire = frames.wire[part] - (where.start - offset)
    regular = np.zeros(len(offset), dtype=bool)
    parts = []
    for kind, read in ((link.IP4, _read_4), (link.IP6, _read_6)):
        mine = np.flatnonzero(where.kind == kind)
        if len(mine):
            found = read(frames.buffer, where, mine, remaining[mine], wire[mine])
            regular[found.ordinal] = True
            parts.append(found)
    rest = np.flatnonzero(~regular & (where.kind != 0) & (remaining > 0))
    singles = [
        (*each, index)
        for index in rest.tolist()
        if (each := _odd(frames, where, index, int(remaining[index]), int(wire[index]), fragments))
    ]
    if singles:
        parts.append(_from_rows(singles))
    parts = [each for each in parts if len(each.ordinal)]
    return _joined(parts) if parts else None


def _joined(parts: Sequence[Packets]) -> Packets:
    if len(parts) == 1:
        return parts[0]
    return Packets(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Packets))
    )


def _odd(
    frames: Frames,
    where: link.Network,
    index: int,
    remaining: int,
    wire: int,
    fragments: odd.Fragments,
) -> tuple[Any, ...] | None:
    begin = int(where.start[index])
    data = frames.buffer[begin : begin + remaining].tobytes()
    found = odd.packet(data, int(where.kind[index]), wire, fragments)
    if found is None:
        return None
    source, target = (found.source, found.source_port), (found.target, found.target_port)
    low, high = min(source, target), max(source, target)
    return (
        int.from_bytes(low[0][:8], "big"),
        int.from_bytes(low[0][8:], "big"),
        int.from_bytes(high[0][:8], "big"),
        int.from_bytes(high[0][8:], "big"),
        low[1] << 16 | high[1],
        found.version << 56 | found.protocol << 48 | int(where.vlan[index]),
        source == low,
        found.flags,
        found.seq,
        found.length,
        found.payload,
        begin + found.start,
        found.kept,
    )


def _from_rows(rows: list[tuple[Any, ...]]) -> Packets:
    kinds: list[Any] = [np.uint64] * 6 + [np.bool_, np.uint8, np.uint32] + [np.int64] * 5
    columns = zip(*rows, strict=True)
    return Packets(
        *(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True))
    )


def _rows(
    buffer: npt.NDArray[np.uint8], start: Ints, layout: np.dtype[np.void]
) -> npt.NDArray[np.void]:
    shape = (len(buffer) - _ROW,)
    view = np.ndarray(shape, dtype=f"V{_ROW}", buffer=buffer.data, strides=(1,))
    rows: npt.NDArray[np.void] = view[start].view(layout)
    return rows


def _read_4(
    buffer: npt.NDArray[np.uint8], where: link.Network, mine: Ints, remaining: Ints, wire: Ints
) -> Packets:
    rows = _rows(buffer, where.start[mine], _LAYOUT_4)
    needed = _NEEDED_4[rows["protocol"]]
    good = (rows["first"] == 0x45) & (rows["fragment"] & _FRAGMENT == 0) & (needed > 0)
    good &= (remaining >= 20 + needed) & ((rows["length"] >= 20 + needed) | (rows["length"] == 0))
    if not good.all():
        rows, mine, remaining, wire = rows[good], mine[good], remaining[good], wire[good]
    length = rows["length"].astype(np.int64)
    np.copyto(length, wire, where=length == 0)
    nothing = np.zeros(len(rows), dtype=np.uint64)
    source = nothing, rows["source"] | _MAPPED
    target = nothing, rows["target"] | _MAPPED
    return _read(rows, source, target, (length, remaining), where, mine, header=20)


def _read_6(
    buffer: npt.NDArray[np.uint8], where: link.Network, mine: Ints, remaining: Ints, wire: Ints
) -> Packets:
    rows = _rows(buffer, where.start[mine], _LAYOUT_6)
    needed = _NEEDED_6[rows["protocol"]]
    good = (rows["first"] >> 4 == 6) & (needed > 0) & (remaining >= 40 + needed)
    good &= (rows["length"] >= needed) | (rows["length"] == 0)
    if not good.all():
        rows, mine, remaining, wire = rows[good], mine[good], remaining[good], wire[good]
    length = rows["length"].astype(np.int64) + 40
    np.copyto(length, wire, where=length == 40)
    source = rows["source_0"].astype(np.uint64), rows["source_1"].astype(np.uint64)
    target = rows["target_0"].astype(np.uint64), rows["target_1"].astype(np.uint64)
    return _read(rows, source, target, (length, remaining), where, mine, header=40)


def _read(
    rows: npt.NDArray[np.void],
    source: tuple[Words, Words],
    target: tuple[Words, Words],
    lengths: tuple[Ints, Ints],
    where: link.Network,
    mine: Ints,
    *,
    header: int,
) -> Packets:
    length, remaining = lengths
    protocol = rows["protocol"]
    tcp = protocol == odd.TCP
    source_port = rows["source_port"].astype(np.uint64)
    target_port = rows["target_port"].astype(np.uint64)
    flags = np.where(tcp, _FLAGS[rows["flags"]], 0).astype(np.uint8)
    control = (protocol == odd.ICMP) | (protocol == odd.ICMP6)
    if control.any():
        _echo(rows, control, source_port, target_port, flags)
    transport = np.where(tcp, (rows["offset"] >> 4).astype(np.int64) * 4, 8)
    np.clip(transport, np.where(tcp, 20, 8), length - header, out=transport)
    payload = length - header - transport
    kept = np.clip(remaining - header - transport, 0, payload)
    from_low = _ordered(source, target, source_port, target_port)
    swap = ~from_low
    version = np.uint64((4 if header == 20 else 6) << 56)
    number = protocol.astype(np.uint64) << np.uint64(48)
    vlan = where.vlan[mine].astype(np.uint64)
    return Packets(
        np.where(swap, target[0], source[0]),
        np.where(swap, target[1], source[1]),
        np.where(swap, source[0], target[0]),
        np.where(swap, source[1], target[1]),
        np.where(swap, target_port << 16 | source_port, source_port << 16 | target_port),
        version | number | vlan,
        from_low,
        flags,
        np.where(tcp, rows["seq"], 0).astype(np.uint32),
        length,
        payload,
        where.start[mine] + header + transport,
        kept,
        mine,
    )


def _ordered(
    source: tuple[Words, Words],
    target: tuple[Words, Words],
    source_port: Words,
    target_port: Words,
) -> npt.NDArray[np.bool_]:
    """Whether (source, port) <= (target, port)."""
    less = source_port <= target_port
    for one, other in ((source[1], target[1]), (source[0], target[0])):
        less = (one < other) | ((one == other) & less)
    return less


def _echo(
    rows: npt.NDArray[np.void],
    control: npt.NDArray[np.bool_],
    source_port: Words,
    target_port: Words,
    flags: npt.NDArray[np.uint8],
) -> None:
    """ICMP has no ports: its echoes are told apart by their identifier, its errors are not."""
    four = rows["protocol"] == odd.ICMP
    ask = control & np.where(four, rows["type"] == 8, rows["type"] == 128)
    answer = control & np.where(four, rows["type"] == 0, rows["type"] == 129)
    identifier = np.where(ask | answer, rows["echo"], 0)
    np.copyto(source_port, identifier, where=control)
    np.copyto(target_port, identifier, where=control)
    flags[ask] = odd.OPENS

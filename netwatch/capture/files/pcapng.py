"""The newer capture format: typed blocks, several interfaces, resolutions and byte orders.

Source: draft-ietf-opsawg-pcapng. Blocks that hold no packet are skipped by their length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import BinaryIO

import numpy as np

from netwatch.capture.files.frames import ASIDE, HEAD, LONGEST, PADDING, Damaged, Frames, gathered

MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_RESOLUTION, _OFFSET = 9, 14
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
# A block longer than this is not believed: its length is what is broken.
_LONGEST_BLOCK = 16 << 20
_BLOCK = 16 << 20
_INTERFACES = 65_536


@dataclass(slots=True)
class _Interface:
    link: int
    snap: int
    unit: int
    offset: int


@dataclass(slots=True)
class _Section:
    """What the blocks of the current section need to be read."""

    order: str = "<"
    interfaces: list[_Interface] = field(default_factory=list)

    def number(self, data: bytes, at: int, size: int = 4) -> int:
        """An unsigned number in the section's byte order."""
        return int.from_bytes(data[at : at + size], "little" if self.order == "<" else "big")


_Record = tuple[int, int, int, int, int]


def frames(head: bytes, stream: BinaryIO, *, block: int = _BLOCK) -> Iterator[Frames]:
    """Yield the frames of a pcapng that starts with `head`; raises Damaged where it breaks."""
    section = _Section()
    rest, seen = head, 0
    while True:
        data = stream.read(block)
        rest += data
        found, at, broken = _blocks(rest, section, final=not data)
        if found:
            yield _frames(rest, found)
        seen += len(found)
        if broken:
            raise Damaged(f"{broken} after packet {seen}")
        rest = rest[at:]
        if not data:
            return


def _blocks(data: bytes, section: _Section, *, final: bool) -> tuple[list[_Record], int, str]:
    """The packets in the whole blocks of `data`, where reading stopped, and what is wrong."""
    found: list[_Record] = []
    at, end = 0, len(data)
    while at + 12 <= end:
        if data[at : at + 4] == MAGIC:
            order = _ORDERS.get(data[at + 8 : at + 12])
            if order is None:
                return found, at, "a section has no byte order"
            section.order, section.interfaces = order, []
        length = section.number(data, at + 4)
        if length < 12 or length % 4 or length > _LONGEST_BLOCK:
            return found, at, f"a block claims {length} bytes"
        if at + length > end:
            break
        record = _block(data, at, length, section)
        if isinstance(record, str):
            return found, at, record
        if record is not None:
            found.append(record)
        at += length
    return found, at, "the file ends within a block" if final and at < end else ""


def _block(data: bytes, at: int, length: int, section: _Section) -> _Record | str | None:
    kind = section.number(data, at)
    if kind == _ENHANCED and length >= 32:
        interface, high, low, captured, wire = Struct(f"{section.order}5I").unpack_from(
            data, at + 8
        )
        return _packet(
            section, interface, high << 32 | low, at + 28, (captured, wire, length - 32)
        )
    if kind == _OBSOLETE and length >= 32:
        interface = section.number(data, at + 8, 2)
        high, low, captured, wire = Struct(f"{section.order}4I").unpack_from(data, at + 12)
        return _packet(
            section, interface, high << 32 | low, at + 28, (captured, wire, length - 32)
        )
    if kind == _SIMPLE and length >= 16:
        wire = section.number(data, at + 8)
        snap = section.interfaces[0].snap if section.interfaces else 0
        captured = min(wire, length - 16, snap or wire)
        return _packet(section, 0, 0, at + 12, (captured, wire, length - 16))
    if kind == _INTERFACE and length >= 20:
        if len(section.interfaces) >= _INTERFACES:
            return "a section has too many interfaces"
        section.interfaces.append(_interface(data, at, length, section))
    return None


def _packet(
    section: _Section, interface: int, ticks: int, at: int, lengths: tuple[int, int, int]
) -> _Record | str:
    captured, wire, room = lengths
    if captured > min(room, LONGEST):
        return f"a packet claims {captured} bytes in a block with room for {room}"
    if interface >= len(section.interfaces):
        return f"a packet names interface {interface}, which is not described"
    port = section.interfaces[interface]
    when = ticks * 1_000_000_000 // port.unit + port.offset * 1_000_000_000
    # Times beyond what 64 bits of nanoseconds hold are damage to one packet, not to the file.
    return at, captured, wire, when if abs(when) < 1 << 62 else 0, port.link


def _interface(data: bytes, at: int, length: int, section: _Section) -> _Interface:
    interface = _Interface(
        section.number(data, at + 8, 2), section.number(data, at + 12), 1_000_000, 0
    )
    place, end = at + 16, at + length - 4
    while place + 4 <= end:
        code, size = section.number(data, place, 2), section.number(data, place + 2, 2)
        if code == 0:
            break
        if code == _RESOLUTION and size == 1:
            value = data[place + 4]
            interface.unit = 1 << (value & 0x7F) if value & 0x80 else 10 ** (value & 0x7F)
        elif code == _OFFSET and size == 8:
            raw = section.number(data, place + 4, 8)
            interface.offset = raw - (1 << 64) if raw >> 63 else raw
        place += 4 + (size + 3) // 4 * 4
    return interface


def _frames(data: bytes, found: list[_Record]) -> Frames:
    buffer = np.empty(len(data) + PADDING + ASIDE, dtype=np.uint8)
    buffer[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    buffer[len(data) : len(data) + PADDING] = 0
    columns = np.array(found, dtype=np.int64).T
    offset, captured, wire, when, link = columns
    return Frames(buffer, offset, captured, wire, when, link, gathered(buffer, offset, HEAD))

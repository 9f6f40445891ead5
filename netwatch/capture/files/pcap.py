"""The classic capture format: one header, then records that name the length of the next.

Source: draft-ietf-opsawg-pcap. Micro- and nanoseconds, both byte orders, and the Kuznetsov
variant, whose records have eight more bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import lockstep
from netwatch.capture.files.frames import (
    ASIDE,
    HEAD,
    LONGEST,
    PADDING,
    Damaged,
    Frames,
    Ints,
    gathered,
)

# magic: byte order, parts of a second, length of a record's header
MAGIC: dict[bytes, tuple[str, int, int]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000, 16),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000, 16),
    b"\x34\xcd\xb2\xa1": ("<", 1_000_000, 24),
    b"\xa1\xb2\xcd\x34": (">", 1_000_000, 24),
}
HEADER = 24
_BLOCK = 8 << 20


def frames(head: bytes, stream: BinaryIO, *, block: int = _BLOCK) -> Iterator[Frames]:
    """Yield the frames of a pcap whose first HEADER bytes are `head`; raises Damaged at the end.

    Reads `block` bytes at a time into one buffer, so what was yielded is valid only until the next
    is asked for, and memory does not grow with the file.
    """
    order, fraction, header = MAGIC[head[:4]]
    link = int.from_bytes(head[20:24], "little" if order == "<" else "big") & 0xFFFF
    buffer = np.empty(block + PADDING + ASIDE, dtype=np.uint8)
    space = memoryview(buffer.data)
    seen, kept = 0, 0
    while got := _fill(stream, space[kept:block]):
        end = kept + got
        buffer[end : end + PADDING] = 0
        starts = None
        if header == 16:
            starts = lockstep.offsets(buffer, end, order=order, fraction=fraction)
        broken = ""
        if starts is None:
            starts, broken = _walk(space[:end], order, header)
        starts, after = _whole(space, starts, end, order=order, header=header)
        if len(starts):
            yield _frames(buffer, starts, after, link, order=order, header=header, unit=fraction)
        seen += len(starts)
        if broken:
            raise Damaged(f"packet {seen + 1} {broken}")
        kept = end - after
        buffer[:kept] = buffer[after:end].copy()
    if kept:
        raise Damaged(f"the file ends within packet {seen + 1}")


def _fill(stream: BinaryIO, space: memoryview) -> int:
    """Read until `space` is full or the file ends; returns how many bytes came."""
    got = 0
    while got < len(space):
        try:
            count = stream.readinto(space[got:])  # type: ignore[attr-defined]
        except Damaged:
            if not got:
                raise
            # It is told when what came before it was read.
            break
        if not count:
            break
        got += count
    return got


def _walk(data: memoryview, order: str, header: int) -> tuple[Ints, str]:
    """Record by record: the starts, and what is wrong with the record that follows them."""
    length = Struct(f"{order}I").unpack_from
    starts = []
    at, last, broken = 0, len(data) - header, ""
    while at <= last:
        (captured,) = length(data, at + 8)
        if captured > LONGEST:
            broken = f"claims {captured} bytes, more than any packet has"
            break
        starts.append(at)
        at += header + captured
    return np.array(starts, dtype=np.int64), broken


def _whole(
    space: memoryview, starts: Ints, end: int, *, order: str, header: int
) -> tuple[Ints, int]:
    """Without the last record if it is cut off; and where the next one starts."""
    if not len(starts):
        return starts, 0
    final = int(starts[-1])
    after = final + header + int(Struct(f"{order}I").unpack_from(space, final + 8)[0])
    return (starts, after) if after <= end else (starts[:-1], final)


def _frames(
    buffer: npt.NDArray[np.uint8],
    starts: Ints,
    after: int,
    link: int,
    *,
    order: str,
    header: int,
    unit: int,
) -> Frames:
    near = gathered(buffer, starts, header + HEAD)
    second, part, wire = (
        near[:, at : at + 4].view(f"{order}u4")[:, 0].astype(np.int64) for at in (0, 4, 12)
    )
    second *= 1_000_000_000
    part *= 1_000_000_000 // unit
    second += part
    offset = starts + header
    captured = np.empty_like(starts)
    np.subtract(starts[1:], offset[:-1], out=captured[:-1])
    captured[-1] = after - offset[-1]
    return Frames(
        buffer, offset, captured, wire, second, np.broadcast_to(np.int64(link), len(starts)), near
    )

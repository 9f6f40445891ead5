"""The guessed record boundaries are exactly those that a plain walk finds, or none at all."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest

from netwatch.capture.files import lockstep, pcap
from netwatch.capture.files.frames import PADDING, Damaged


def capture(sizes: list[int], *, order: str = "<", fill: bytes = b"") -> bytes:
    """Records of these sizes, without the file's header; `fill` repeats inside the frames."""
    parts = []
    for number, size in enumerate(sizes):
        parts.append(struct.pack(f"{order}IIII", 1_700_000_000, number % 10**6, size, size))
        parts.append((fill * (size // len(fill) + 1))[:size] if fill else bytes(size))
    return b"".join(parts)


def plain(data: bytes, order: str) -> list[int]:
    found, at = [], 0
    while at + 16 <= len(data):
        found.append(at)
        at += 16 + struct.unpack_from(f"{order}I", data, at + 8)[0]
    return found


def guessed(data: bytes, order: str):
    buffer = np.frombuffer(data + bytes(PADDING), dtype=np.uint8)
    return lockstep.offsets(buffer, len(data), order=order, fraction=1_000_000)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("largest", [pytest.param(90, id="small"), pytest.param(1500, id="usual")])
def test_all_boundaries_are_found(order, largest):
    draw = random.Random(3)
    data = capture([draw.randint(14, largest) for _ in range(4_000_000 // largest)], order=order)
    assert guessed(data, order).tolist() == plain(data, order)


def test_packets_of_64_kilobytes():
    draw = random.Random(4)
    data = capture([draw.choice((60, 65_000)) for _ in range(200)])
    found = guessed(data, "<")
    assert found is None or found.tolist() == plain(data, "<")


def test_frames_full_of_headers_do_not_mislead():
    """A capture of a capture: every frame looks like records itself."""
    inner = struct.pack("<IIII", 1_700_000_000, 5, 48, 48) + bytes(48)
    data = capture([1600 + n % 7 for n in range(2000)], fill=inner)
    found = guessed(data, "<")
    assert found is None or found.tolist() == plain(data, "<")


@pytest.mark.parametrize("block", [1 << 20, (1 << 20) + 12345])
def test_blocks_are_joined_where_records_straddle_them(block):
    draw = random.Random(5)
    sizes = [draw.randint(60, 1500) for _ in range(6000)]
    stream = io.BytesIO(capture(sizes))
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    found = [int(n) for each in pcap.frames(head, stream, block=block) for n in each.captured]
    assert found == sizes


def test_damage_in_the_middle_is_found_where_it_is():
    sizes = [600] * 6000
    data = bytearray(capture(sizes))
    struct.pack_into("<I", data, 616 * 4000 + 8, 1 << 30)
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    found = 0
    with pytest.raises(Damaged, match="packet 4001 claims"):
        for each in pcap.frames(head, io.BytesIO(bytes(data)), block=1 << 20):
            found += len(each.offset)
    assert found == 4000

"""Captures with something wrong: what a hostile sender, a full disk or a bad cable makes of them.

Half of the mutations are made of the file's bytes, which mostly breaks the file format; the other
half of the frames in it, so that the damage reaches the parsers behind.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

from netwatch.capture.files.frames import Damaged
from netwatch.capture.files.reading import _blocks
from netwatch.model.errors import NetwatchError

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "pcaps"
# Lengths and counts that parsers get wrong.
_EXTREMES = (b"\x00", b"\xff", b"\x00\x00", b"\xff\xff", b"\x7f\xff", b"\x00\x01", b"\xff\xff\xff")

Frame = tuple[int, bytes]


@cache
def captures() -> tuple[tuple[str, bytes, tuple[Frame, ...]], ...]:
    """Name, content and frames of every capture of ../shared/data/pcaps."""
    found = []
    for file in sorted(DATA.glob("*.*cap*")):
        data = file.read_bytes()
        found.append((file.name, data, tuple(frames(data))))
    return tuple(found)


def frames(data: bytes) -> list[Frame]:
    """Link type and bytes of each frame in a capture, up to its damage."""
    found: list[Frame] = []
    try:
        for block in _blocks(BytesIO(data), "capture"):
            columns = (block.link, block.offset, block.captured)
            for link, at, size in zip(*(each.tolist() for each in columns), strict=True):
                found.append((link, block.buffer[at : at + size].tobytes()))
    except (Damaged, NetwatchError):
        pass
    return found


def pcap(said: Sequence[Frame], draw: random.Random) -> bytes:
    """A capture of frames of one link type, that of the first one."""
    link = said[0][0] if said else 1
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link)]
    for number, (_, frame) in enumerate(said):
        wire = len(frame) + (draw.randrange(2000) if draw.random() < 0.02 else 0)
        out.append(struct.pack("<IIII", 1_700_000_000, number % 10**6, len(frame), wire) + frame)
    return b"".join(out)


def mutation(draw: random.Random) -> tuple[str, bytes]:
    """One capture, mutated; the name says which."""
    name, data, said = draw.choice(captures())
    if draw.random() < 0.4 or not said:
        return name, draw.choice(_OF_FILES)(data, draw)
    some = list(said[:200])
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice(_OF_FRAMES)(some, draw)
    return name, pcap(some, draw)


def flipped(data: bytes, draw: random.Random) -> bytes:
    """Some bits are others."""
    changed = bytearray(data)
    for _ in range(1 + len(data) // draw.choice((50, 500, 5000)) if data else 0):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    """The end is missing."""
    return data[: draw.randrange(len(data) + 1)]


def spliced(data: bytes, draw: random.Random) -> bytes:
    """The beginning of one, the end of itself or of another capture."""
    other = data if draw.random() < 0.5 else draw.choice(captures())[1]
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def stamped(data: bytes, draw: random.Random) -> bytes:
    """Some bytes are as large or small as can be: lengths, counts, types."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 2, 8))):
        value, at = draw.choice(_EXTREMES), draw.randrange(len(data) + 1)
        changed[at : at + len(value)] = value
    return bytes(changed)


_OF_FILES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flipped, cut, spliced, stamped)


def _some(said: list[Frame], draw: random.Random) -> None:
    """Some frames, each changed by itself."""
    for _ in range(1 + len(said) // 4):
        place = draw.randrange(len(said))
        link, frame = said[place]
        said[place] = link, draw.choice(_OF_FILES[:2] + _OF_FILES[3:])(frame, draw)


def _shuffled(said: list[Frame], draw: random.Random) -> None:
    draw.shuffle(said)


def _thinned(said: list[Frame], draw: random.Random) -> None:
    said[:] = [each for each in said if draw.random() < 0.7] or said


def _repeated(said: list[Frame], draw: random.Random) -> None:
    said += draw.choices(said, k=min(len(said), 50))


def _mixed(said: list[Frame], draw: random.Random) -> None:
    """Payload of other captures behind the headers of these."""
    for _ in range(1 + len(said) // 4):
        strange = draw.choice(captures())[2]
        if strange:
            place = draw.randrange(len(said))
            at = draw.choice((34, 42, 54, 66))
            link, frame = said[place]
            said[place] = link, frame[:at] + draw.choice(strange)[1][draw.choice((42, 54, 66)) :]


_OF_FRAMES: tuple[Callable[[list[Frame], random.Random], None], ...] = (
    _some,
    _some,
    _shuffled,
    _thinned,
    _repeated,
    _mixed,
)

"""What every capture format yields: where the frames lie in a block of bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The numbers of https://www.tcpdump.org/linktypes.html that a Linux host writes.
NULL, ETHERNET, RAW_BSD, RAW_OPENBSD, RAW, LOOP = 0, 1, 12, 14, 101, 108
COOKED, IPV4, IPV6, COOKED_2 = 113, 228, 229, 276
PPP, PPP_HDLC, HDLC = 9, 50, 104

# Bytes behind the last frame of a buffer that may be read (and are never used): the vectorised
# parser takes whole rows.
PADDING = 256

# Bytes from the start of a frame on in which the headers of a plain packet end: at most 20 of the
# link layer, two VLAN tags, and 56 of network and transport.
HEAD = 96

# Behind that, room for what a block's fragments were when they were whole.
ASIDE = 1 << 20

# libpcap's MAXIMUM_SNAPLEN: what says it captured more is not a packet.
LONGEST = 262_144

Ints = npt.NDArray[np.int64]


class Damaged(Exception):
    """The capture can not be read further; the message says where and why."""


@dataclass(slots=True)
class Frames:
    """Some frames in one buffer of uint8 (PADDING + ASIDE bytes longer than its content).

    `offset`, `captured`, `wire` (lengths in bytes), `when` (ns since the epoch) and `link` (link
    type) have one number per frame, in the order of the file. `near` has a row per frame that ends
    with its first HEAD bytes once more: what is looked at many times stays in the cache like this.
    """

    buffer: npt.NDArray[np.uint8]
    offset: Ints
    captured: Ints
    wire: Ints
    when: Ints
    link: Ints
    near: npt.NDArray[np.uint8]
    used: int = 0

    def put_aside(self, data: bytes) -> tuple[int, int]:
        """Keep bytes with the frames; returns where they are, and how many: 0 without room."""
        start = len(self.buffer) - ASIDE + self.used
        if start + len(data) + PADDING > len(self.buffer):
            return start, 0
        self.buffer[start : start + len(data)] = np.frombuffer(data, dtype=np.uint8)
        self.used += len(data)
        return start, len(data)


def gathered(buffer: npt.NDArray[np.uint8], starts: Ints, width: int) -> npt.NDArray[np.uint8]:
    """The `width` (at most PADDING) bytes from each start on, a row each."""
    shape = (len(buffer) - width,)
    view = np.ndarray(shape, dtype=f"V{width}", buffer=buffer.data, strides=(1,))
    found: npt.NDArray[np.uint8] = view[starts].view(np.uint8)
    return found.reshape(len(starts), width)


def taken(rows: npt.NDArray[np.void], which: Ints) -> npt.NDArray[np.void]:
    """These of the rows, in this order: as so many bytes, as numpy copies fields one by one."""
    return rows.view(np.dtype((np.void, rows.itemsize)))[which].view(rows.dtype)

"""Captures that gzip compressed, unpacked while they are read: of any size, in bounded memory."""

from __future__ import annotations

import zlib
from gzip import GzipFile
from typing import BinaryIO, cast

from netwatch.capture.files.frames import Damaged

# RFC 1952 section 2.3.1.
MAGIC = b"\x1f\x8b"


class Unpacked:
    """The content of a compressed stream that starts with `head`; raises Damaged where it breaks,
    after all that could be unpacked before.
    """

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._file = GzipFile(fileobj=cast(BinaryIO, _Whole(head, stream)))
        self._broken: Exception | None = None

    def read(self, size: int) -> bytes:
        """So many bytes; less only where the content ends or breaks."""
        parts, left = [], size
        while left and self._broken is None:
            try:
                part = self._file.read1(left)
            except (EOFError, OSError, zlib.error) as error:
                self._broken = error
                break
            if not part:
                break
            parts.append(part)
            left -= len(part)
        if self._broken and not parts:
            raise Damaged(f"it can not be unpacked further ({self._broken})")
        return b"".join(parts)

    def readinto(self, space: memoryview) -> int:
        """The same, into what is given; returns how many bytes that were."""
        data = self.read(len(space))
        space[: len(data)] = data
        return len(data)


class _Whole:
    """What was read of a stream already, and the rest of it."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head or self._stream.read(size)

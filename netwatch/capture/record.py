"""A pcap file that is valid at every moment: whole records only, to a limit, with its SHA-256."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from netwatch.model.errors import NetwatchError

# Nanoseconds, little-endian, version 2.4, Ethernet (draft-ietf-opsawg-pcap).
_HEADER = struct.Struct("<IHHiIII")
_NANOSECONDS, _ETHERNET = 0xA1B23C4D, 1
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def header(snap: int) -> bytes:
    """The first 24 bytes of the file."""
    return _HEADER.pack(_NANOSECONDS, 2, 4, 0, 0, snap, _ETHERNET)


def new_file(path: Path, *, force: bool) -> int:
    """A descriptor of a new file that only its owner reads; `force` replaces an old *file*.

    Raises NetwatchError where something is there already, or nothing can be.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if force and stat.S_ISREG(os.lstat(path).st_mode):
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        raise NetwatchError(
            f"{path} is there already", "name another file; --force replaces a regular one"
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> NetwatchError:
    return NetwatchError(f"{path} can not be written: {error.strerror}", "name another file")


class Record:
    """Writes to `descriptor`, at most `most` bytes, the header included.

    `packets` and `size` say what is in the file, `full` why it takes no more: `bytes`, `disk-full`
    or `reader-gone` (the other end of a pipe).
    """

    def __init__(self, descriptor: int, *, most: int, snap: int) -> None:
        self._descriptor = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._most = most
        self._sum = hashlib.sha256()
        self.packets = 0
        self.size = 0
        self.full: str | None = None
        first = header(snap)
        self._keep(first[: self._write(first)])

    def add(self, records: Sequence[bytes]) -> None:
        """Append these records, as many as there is room for."""
        if not records or self.full:
            return
        ends = list(accumulate(map(len, records)))
        fit = bisect_right(ends, self._most - self.size)
        data = b"".join(records[:fit])
        whole = bisect_right(ends, self._write(data))
        self._keep(data[: ends[whole - 1]] if whole else b"")
        self.packets += whole
        if fit < len(records) and not self.full:
            self.full = "bytes"

    def sha256(self) -> str:
        """Of the file as it is."""
        return self._sum.hexdigest()

    def _write(self, data: bytes) -> int:
        """How many bytes were taken; less than all of them sets `full`."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BrokenPipeError:
            self.full = "reader-gone"
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.full = "disk-full"
        return len(data) - len(left)

    def _keep(self, data: bytes) -> None:
        """This is in the file for good; of what was written behind it a file loses the rest."""
        self._sum.update(data)
        self.size += len(data)
        if self.full and self._regular:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)

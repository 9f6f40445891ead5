"""Remembers which connections were netwatch's own, so that none of them is taken for traffic.

Whoever probes binds a port of its own range first and writes the connection down before its first
packet leaves; the agent of the same network namespace takes flows and denials of exactly these
connections out. The range alone proves nothing: a workload may choose such a port itself.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from netwatch.enforce import kernel
from netwatch.model.errors import NetwatchError
from netwatch.model.probe import PORTS
from netwatch.model.times import SECOND

KEPT = 900 * SECOND  # a flow is told within seconds, and conntrack forgets a probe in minutes
MAX_BYTES = 1 << 20  # about 14,000 probes; older ones make room
TRIES = 64  # ports that somebody else holds, in a row
_turns = itertools.count(random.randrange(len(PORTS)))  # next() is one step of the interpreter


class Probed(NamedTuple):
    """One connection of ours, as its first packet has it."""

    protocol: str
    source: str
    source_port: int
    destination: str
    port: int


def place() -> Path:
    """The record of the calling thread's network namespace; `host remove` takes it away."""
    return kernel.RUN / f"enforce.{kernel.namespace_inode()}.probed"


def mark(
    opened: socket.socket, source: str | None, aim: tuple[str, int], record: Path, *, now: int
) -> Probed:
    """Bind the socket to `source` and a port of `PORTS`, and write down what it is about to call.

    `source` None: the caller is in the namespace of the socket, and its routes decide. Raises
    NetwatchError if no port is free, OSError where the address is not there or has no way out.
    """
    protocol = "udp" if opened.type & 0xF == socket.SOCK_DGRAM else "tcp"
    address = source or _routed(opened.family, aim)
    for _ in range(TRIES):
        port = PORTS[next(_turns) % len(PORTS)]
        try:
            opened.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise
        ends = str(ip_address(address)), port, str(ip_address(aim[0])), aim[1]
        probed = Probed(protocol, *ends)
        _append(record, probed, now)
        return probed
    raise NetwatchError(
        f"no port from {PORTS[0]} to {PORTS[-1]} is free to probe from", "try again later"
    )


def _routed(family: int, aim: tuple[str, int]) -> str:
    """The source that the routes choose; connecting a UDP socket sends nothing."""
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as asked:
        asked.connect(aim)
        return str(asked.getsockname()[0])


def _append(record: Path, probed: Probed, now: int) -> None:
    """One line; an append of this size is whole or not at all."""
    record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(record, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_size > MAX_BYTES:
            text = os.pread(descriptor, MAX_BYTES + 4096, 0).decode(errors="replace")
            kept = [line for at, line in _lines(text) if at > now - KEPT]
            os.ftruncate(descriptor, 0)
            os.write(descriptor, "".join(kept[-(MAX_BYTES // 200) :]).encode())
        os.write(descriptor, f"{now} {' '.join(map(str, probed))}\n".encode())
    finally:
        os.close(descriptor)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for line in text.splitlines(keepends=True):
        first = line.partition(" ")[0]
        if line.endswith("\n") and first.isascii() and first.isdigit():
            yield int(first), line


class Record:
    """What was probed lately; read again only when the file has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._known: dict[Probed, int] = {}

    def recent(self, now: int) -> frozenset[Probed]:
        """The connections of the last fifteen minutes."""
        try:
            found = self._file.stat()
            stamp = found.st_mtime_ns, found.st_size
            if stamp != self._stamp:
                with self._file.open("rb") as stream:
                    text = stream.read(2 * MAX_BYTES).decode(errors="replace")
                self._known = dict(_parsed(text))
                self._stamp = stamp
        except OSError:
            self._known, self._stamp = {}, None
        return frozenset(probed for probed, at in self._known.items() if at > now - KEPT)


def _parsed(text: str) -> Iterable[tuple[Probed, int]]:
    for at, line in _lines(text):
        parts = line.split()
        if len(parts) == 6 and parts[3].isdigit() and parts[5].isdigit():
            yield Probed(parts[1], parts[2], int(parts[3]), parts[4], int(parts[5])), at

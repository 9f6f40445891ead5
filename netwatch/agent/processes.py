"""Which process holds a socket of this host: /proc/PID/net joined with /proc/PID/fd by inode.

A connection that is over before anybody looks has no socket any more: its process stays unknown.
Nothing is guessed; two sockets that fit are none. What is looked at in one round is bounded, so
that ten thousand connections a second cost no more than a few hundred.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from netwatch.model.flow import Process
from netwatch.model.times import SECOND, passed

LISTEN, UNCONNECTED = "0A", "07"  # as in listeners.py
MAX_TABLE = 256 * 1024  # bytes of one table, about 1,700 sockets; what is behind is not found
MAX_NAMESPACES = 16  # looked at in one round
MAX_OPEN = 1_024  # descriptors looked at in one round, 3 us each
MAX_PIDS = 65_536
MAX_EXE = 256
CENSUS_EVERY = 5 * SECOND  # 25 us a process
_SOCKET = "socket:["

Ends = tuple[str, int, str, int]  # local address and port, remote address and port


@dataclass(slots=True)
class _Sockets:
    """The sockets of one network namespace: inodes by both ends, and by a bound port alone."""

    pid: int
    joined: dict[tuple[str, str, str], int] = field(default_factory=dict)
    bound: dict[tuple[str, int], set[int]] = field(default_factory=dict)


class Processes:
    """Remembers processes by namespace, and who held a socket, for one round after another."""

    def __init__(self, proc: Path = Path("/proc"), passwd: Path = Path("/etc/passwd")) -> None:
        self._proc = proc
        self._passwd = passwd
        self._members: dict[int, list[int]] = {}
        self._now = self._counted = 0
        self._sockets: dict[int, _Sockets] = {}
        self._owners: dict[int, Process] = {}
        self._scanned: set[int] = set()
        self._open_left = MAX_OPEN
        self._users: dict[int, str] = {}
        self.unlooked = 0

    def begin(self, now: int) -> None:
        """A new round: sockets are read anew when they are asked for."""
        self._sockets.clear()
        self._owners.clear()
        self._scanned.clear()
        self._open_left = MAX_OPEN
        self._now = now

    def of_connection(self, pid: int, protocol: str, ends: Ends) -> Process | None:
        """The process in the namespace of `pid` whose socket joins these two ends."""
        sockets = self._of(pid)
        if sockets is None:
            return None
        local, port, remote, far = ends
        for one, other in _spellings(local, remote):
            inode = sockets.joined.get((protocol, f"{one}:{port:04X}", f"{other}:{far:04X}"))
            if inode:
                return self._owner(pid, inode)
        return self.of_port(pid, protocol, port) if protocol == "udp" else None

    def of_port(self, pid: int, protocol: str, port: int) -> Process | None:
        """The process there that listens on a port, or has it bound; None if two sockets do."""
        sockets = self._of(pid)
        inodes = sockets.bound.get((protocol, port), set()) if sockets else set()
        owners = {self._owner(pid, inode) for inode in inodes}
        return owners.pop() if len(owners) == 1 else None

    def _of(self, pid: int) -> _Sockets | None:
        known = self._sockets.get(pid)
        if known is None:
            if len(self._sockets) >= MAX_NAMESPACES:
                self.unlooked += 1
                return None
            known = self._sockets[pid] = _read(self._proc, pid)
        return known

    def _owner(self, pid: int, inode: int) -> Process | None:
        if inode not in self._owners and pid not in self._scanned:
            self._scanned.add(pid)
            self._scan(pid)
        return self._owners.get(inode)

    def _scan(self, pid: int) -> None:
        """Find the holders of all sockets of the namespace of `pid`; of several the first pid."""
        if passed(self._counted, self._now, CENSUS_EVERY):
            self._counted = self._now
            self._members = _by_namespace(self._proc)
            self._users = _users(self._passwd)
        with suppress(OSError):
            namespace = os.stat(self._proc / str(pid) / "ns" / "net").st_ino
            for member in sorted({pid, *self._members.get(namespace, ())}):
                held = None
                for inode in self._held(member):
                    if inode in self._owners:
                        continue
                    held = held or _process(self._proc, member, self._users)
                    if held is None:
                        break
                    self._owners[inode] = held
                if self._open_left <= 0:
                    self.unlooked += 1
                    return

    def _held(self, pid: int) -> Iterator[int]:
        folder = self._proc / str(pid) / "fd"
        try:
            names = os.listdir(folder)
        except OSError:
            return
        for name in names[: max(0, self._open_left)]:
            self._open_left -= 1
            with suppress(OSError, ValueError):
                target = os.readlink(folder / name)
                if target.startswith(_SOCKET):
                    yield int(target[len(_SOCKET) : -1])


def _by_namespace(proc: Path) -> dict[int, list[int]]:
    """The processes of each network namespace, by its inode."""
    members: dict[int, list[int]] = {}
    try:
        pids = [int(name) for name in os.listdir(proc) if name.isdecimal()]
    except OSError:
        return members
    for pid in sorted(pids)[:MAX_PIDS]:
        with suppress(OSError):
            members.setdefault(os.stat(proc / str(pid) / "ns" / "net").st_ino, []).append(pid)
    return members


def _read(proc: Path, pid: int) -> _Sockets:
    sockets = _Sockets(pid)
    for file, protocol in (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")):
        with suppress(OSError), (proc / str(pid) / "net" / file).open() as table:
            _note(table.read(MAX_TABLE).splitlines()[1:], protocol, sockets)
    return sockets


def _note(lines: Iterable[str], protocol: str, sockets: _Sockets) -> None:
    """Lines of proc(5): sl local remote state tx:rx tr:when retransmits uid timeout inode …"""
    for line in lines:
        columns = line.split(maxsplit=10)
        if len(columns) < 10 or columns[9] == "0" or not columns[9].isdecimal():
            continue  # TIME_WAIT belongs to nobody
        local, remote, state, inode = columns[1], columns[2], columns[3], int(columns[9])
        if state in (LISTEN, UNCONNECTED):
            port = int(local.rpartition(":")[2], 16)
            sockets.bound.setdefault((protocol, port), set()).add(inode)
        else:
            sockets.joined[protocol, local, remote] = inode


def _process(proc: Path, pid: int, users: dict[int, str]) -> Process | None:
    """The process as it is now, or None if it is gone."""
    try:
        with (proc / str(pid) / "status").open(errors="replace") as status:
            lines = status.read(4_096).splitlines()
        uid = int(next(line for line in lines if line.startswith("Uid:")).split()[2])
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    exe = None
    with suppress(OSError):  # a kernel thread has none
        exe = os.readlink(proc / str(pid) / "exe").encode(errors="replace").decode()[:MAX_EXE]
    return Process(pid, exe, uid, users.get(uid))


def _users(passwd: Path) -> dict[int, str]:
    """Names by uid, of the file alone: other databases of users may ask the network."""
    found: dict[int, str] = {}
    with suppress(OSError), passwd.open(errors="replace") as file:
        for line in file.read(1024 * 1024).splitlines():
            columns = line.split(":")
            if len(columns) > 2 and columns[2].isdecimal():
                found.setdefault(int(columns[2]), columns[0])
    return found


def _spellings(local: str, remote: str) -> tuple[tuple[str, str], ...]:
    """Both addresses as the tables write them; IPv4 also as a socket of IPv6 shows it."""
    return tuple(zip(_hexadecimal(local), _hexadecimal(remote), strict=False))


@lru_cache(maxsize=4_096)
def _hexadecimal(address: str) -> tuple[str, ...]:
    packed = ipaddress.ip_address(address.partition("%")[0]).packed
    if len(packed) == 4:
        mapped = bytes(10) + b"\xff\xff" + packed
        return _words(packed), _words(mapped)
    return (_words(packed),)


def _words(packed: bytes) -> str:
    """Words of 32 bits in the order of the processor (net/ipv4/tcp_ipv4.c: get_tcp4_sock)."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)

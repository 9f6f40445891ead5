"""Which process holds a socket of this host: its table joined with /proc/PID/fd by inode.

A connection that is over before anybody looks has no socket any more: its process stays unknown.
Nothing is guessed; two sockets that fit are none. What is looked at in one round is bounded, so
that ten thousand connections a second cost no more than a few hundred.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from netwatch.agent import tables
from netwatch.enforce.sockdiag import Socket
from netwatch.model.flow import Process
from netwatch.model.times import SECOND, passed

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

    joined: dict[tuple[str, bytes, int, bytes, int], int] = field(default_factory=dict)
    bound: dict[tuple[str, int], set[int]] = field(default_factory=dict)


class Processes:
    """Remembers processes by namespace, and who held a socket, for one round after another."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        passwd: Path = Path("/etc/passwd"),
        *,
        read: tables.Read = tables.held,
    ) -> None:
        self._proc = proc
        self._read = read
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
        inode = sockets.joined.get(
            (protocol, tables.packed(local), port, tables.packed(remote), far)
        )
        if inode is not None:
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
            known = self._sockets[pid] = _noted(self._read(pid))
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


def _noted(found: Iterable[Socket]) -> _Sockets:
    sockets = _Sockets()
    for each in found:
        if not each.inode:  # TIME_WAIT belongs to nobody
            continue
        if each.waits:
            sockets.bound.setdefault((each.protocol, each.port), set()).add(each.inode)
        else:
            ends = (each.local, each.port, each.remote, each.far)
            sockets.joined[each.protocol, *ends] = each.inode
    return sockets


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

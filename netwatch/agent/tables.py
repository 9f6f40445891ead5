"""The sockets of a network namespace: asked of the kernel, or read where /proc shows them.

/proc/PID/net/tcp goes through the kernel's table of all connections of all namespaces whenever it
is read, 1.5 ms where the machine has 24 GB, and tcp6 does so once more. sock_diag
(linux/sock_diag.h, linux/inet_diag.h) tells listeners in 0.02 ms and all sockets in 0.3, but is
asked from inside the namespace. Where that may not be entered, or lacks it, /proc is read.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from netwatch.enforce import netlink
from netwatch.kernel.namespaces import inside, path_of_pid
from netwatch.model.errors import NetwatchError

SOCK_DIAG, BY_FAMILY = 4, 20
SYN_RECV, TIME_WAIT, UNCONNECTED, LISTEN, NEW_SYN_RECV = (
    3,
    6,
    7,
    10,
    12,
)  # include/net/tcp_states.h
MOST = 2_048  # sockets of one table; what is behind is not found
MAX_BYTES = 256 * 1024  # of a table in /proc: about 1,700 sockets

_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_WAITING = {"tcp": 1 << LISTEN, "udp": 1 << UNCONNECTED}
_HELD = {"tcp": 0xFFFF & ~(1 << SYN_RECV | 1 << TIME_WAIT | 1 << NEW_SYN_RECV), "udp": 0xFFFF}
_TOLD = struct.Struct("!xBxxHH16s16s")  # struct inet_diag_msg, until the interface
_INODE = struct.Struct("=I")
_INODE_AT = 68
_MAPPED = bytes(10) + b"\xff\xff"
_FILES = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}


class Socket(NamedTuple):
    """One socket that somebody has open. Addresses are packed, IPv4 always in four bytes."""

    protocol: str
    state: int
    local: bytes
    port: int
    remote: bytes
    far: int
    inode: int

    @property
    def waits(self) -> bool:
        """For connections, or for datagrams of whoever sends some."""
        return self.state == (LISTEN if self.protocol == "tcp" else UNCONNECTED)


Read = Callable[[int], list[Socket]]


def held(pid: int) -> list[Socket]:
    """All sockets of the namespace that `pid` lives in; none if it is gone."""
    told = _asked(pid, _HELD)
    return shown(pid) if told is None else told


def waiting(pid: int) -> list[Socket]:
    """Those of them that wait for others."""
    told = _asked(pid, _WAITING)
    return [each for each in shown(pid) if each.waits] if told is None else told


def shown(pid: int, proc: Path = Path("/proc")) -> list[Socket]:
    """What `held` gives, by the files of proc(5): sl local remote state tx:rx tr:when …"""
    found: list[Socket] = []
    for file, protocol in _FILES.items():
        with suppress(OSError), (proc / str(pid) / "net" / file).open() as table:
            for line in table.read(MAX_BYTES).splitlines()[1:]:
                columns = line.split(maxsplit=10)
                if len(columns) > 9 and columns[9].isdecimal():
                    found.append(_parsed(protocol, columns))
    return found


def packed(address: str) -> bytes:
    """An address as sockets have it here; a zone is left out."""
    return _plain(ipaddress.ip_address(address.partition("%")[0]).packed)


def _asked(pid: int, states: Mapping[str, int]) -> list[Socket] | None:
    """What the kernel tells of sockets in these states; None if it may not be asked there."""
    try:
        return inside(path_of_pid(pid), lambda: list(_dumped(states)))
    except (NetwatchError, OSError):  # not root, no sock_diag, or gone
        return None


def _dumped(states: Mapping[str, int]) -> Iterator[Socket]:
    for protocol, number in _NUMBERS.items():
        for family, width in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            # struct inet_diag_req_v2: any socket in one of the states
            wanted = struct.pack("=BBBxI", family, number, 0, states[protocol]) + bytes(48)
            dumped = netlink.dump_raw(SOCK_DIAG, BY_FAMILY, wanted, strict=True)
            for body in islice(dumped, MOST):
                state, port, far, local, remote = _TOLD.unpack_from(body)
                (inode,) = _INODE.unpack_from(body, _INODE_AT)
                ends = _plain(local[:width]), port, _plain(remote[:width]), far
                yield Socket(protocol, state, *ends, inode)


def _parsed(protocol: str, columns: Sequence[str]) -> Socket:
    local, port = columns[1].split(":")
    remote, far = columns[2].split(":")
    ends = _unhexed(local), int(port, 16), _unhexed(remote), int(far, 16)
    return Socket(protocol, int(columns[3], 16), *ends, int(columns[9]))


def _unhexed(words: str) -> bytes:
    """Words of 32 bits in the order of the processor (net/ipv4/tcp_ipv4.c: get_tcp4_sock)."""
    parts = (words[at : at + 8] for at in range(0, len(words), 8))
    return _plain(b"".join(int(part, 16).to_bytes(4, sys.byteorder) for part in parts))


def _plain(address: bytes) -> bytes:
    """IPv4 also where a socket of IPv6 speaks it."""
    return address[12:] if address.startswith(_MAPPED) else address

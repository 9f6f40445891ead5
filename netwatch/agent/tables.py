"""The sockets of a network namespace: asked of the kernel, or read where /proc shows them.

/proc/PID/net/tcp goes through the kernel's table of all connections of all namespaces whenever it
is read, 1.5 ms where the machine has 24 GB, and tcp6 does so once more. sock_diag tells listeners
in 0.02 ms and all sockets in 0.3, but is asked from inside the namespace. Where that may not be
entered, or the kernel lacks it, /proc is read.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from netwatch.enforce import sockdiag
from netwatch.enforce.sockdiag import EVERY, NEW_SYN_RECV, SYN_RECV, TIME_WAIT, Socket, plain
from netwatch.kernel.namespaces import inside, path_of_pid
from netwatch.model.errors import NetwatchError

# Sockets of a table (one protocol and family), 160 bytes each in /proc; more are not found. Who
# waits for others is asked for seldom, and decides who is the server.
MOST_HELD, MOST_WAITING = 1_700, 25_000

_OVER = 1 << SYN_RECV | 1 << TIME_WAIT | 1 << NEW_SYN_RECV  # or not yet anybody's
_HELD = {"tcp": EVERY & ~_OVER, "udp": EVERY}
_WAITING = {protocol: 1 << state for protocol, state in sockdiag.WAITING.items()}
_FILES = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}

Read = Callable[[int], list[Socket]]


def held(pid: int) -> list[Socket]:
    """All sockets of the namespace that `pid` lives in; none if it is gone."""
    told = _asked(pid, _HELD, MOST_HELD)
    return shown(pid) if told is None else told


def waiting(pid: int) -> list[Socket]:
    """Those of them that wait for others."""
    told = _asked(pid, _WAITING, MOST_WAITING)
    if told is not None:
        return told
    return [each for each in shown(pid, most=MOST_WAITING) if each.waits]


def shown(pid: int, proc: Path = Path("/proc"), *, most: int = MOST_HELD) -> list[Socket]:
    """What `held` gives, by the files of proc(5): sl local remote state tx:rx tr:when …"""
    found: list[Socket] = []
    for file, protocol in _FILES.items():
        with suppress(OSError), (proc / str(pid) / "net" / file).open() as table:
            for line in table.read(160 * most).splitlines()[1:]:
                columns = line.split(maxsplit=10)
                if len(columns) > 9 and columns[9].isdecimal():
                    found.append(_parsed(protocol, columns))
    return found


@lru_cache(maxsize=4_096)
def packed(address: str) -> bytes:
    """An address as sockets have it here; a zone is left out."""
    return plain(ipaddress.ip_address(address.partition("%")[0]).packed)


def _asked(pid: int, states: Mapping[str, int], most: int) -> list[Socket] | None:
    """What the kernel tells of sockets in these states; None if it may not be asked there."""

    def dumped() -> list[Socket]:
        return [
            each
            for protocol, mask in states.items()
            for each, _ in sockdiag.sockets(protocol, mask, strict=True, most=most)
        ]

    try:
        return inside(path_of_pid(pid), dumped)
    except (NetwatchError, OSError):  # not root, no sock_diag, or gone
        return None


def _parsed(protocol: str, columns: Sequence[str]) -> Socket:
    local, port = columns[1].split(":")
    remote, far = columns[2].split(":")
    ends = _unhexed(local), int(port, 16), _unhexed(remote), int(far, 16)
    return Socket(protocol, int(columns[3], 16), *ends, int(columns[9]))


def _unhexed(words: str) -> bytes:
    """Words of 32 bits in the order of the processor (net/ipv4/tcp_ipv4.c: get_tcp4_sock)."""
    parts = (words[at : at + 8] for at in range(0, len(words), 8))
    return plain(b"".join(int(part, 16).to_bytes(4, sys.byteorder) for part in parts))

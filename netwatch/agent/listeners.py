"""Which ports the workloads listen on, read where the kernel shows them for each namespace.

/proc/PID/net/{tcp,udp}{,6} list the sockets of the network namespace that PID lives in (proc(5)),
so nothing has to be entered. A listening socket tells server from client when no SYN was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"  # include/net/tcp_states.h
UNCONNECTED = "07"  # TCP_CLOSE, which is how an unconnected UDP socket is shown
EPHEMERAL = 32_768  # the kernel's default ip_local_port_range begins here
MAX_BYTES = 4 * 1024 * 1024  # about 25,000 sockets


def listening(pid: int, proc: Path = Path("/proc")) -> frozenset[tuple[str, int]]:
    """(protocol, port) pairs that somebody in the namespace of `pid` listens on.

    A UDP socket in the ephemeral range is taken for a client's. A process that is gone has none.
    """
    found: set[tuple[str, int]] = set()
    for file, protocol in (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")):
        try:
            with (proc / str(pid) / "net" / file).open() as table:
                text = table.read(MAX_BYTES)
        except OSError:
            continue
        found.update((protocol, port) for port in _ports(text, protocol))
    return frozenset(found)


def _ports(table: str, protocol: str) -> Iterator[int]:
    for line in table.splitlines()[1:]:
        columns = line.split(maxsplit=4)
        if len(columns) < 4 or ":" not in columns[1]:
            continue
        port, state = int(columns[1].rsplit(":", 1)[1], 16), columns[3]
        bound = state == UNCONNECTED and 0 < port < EPHEMERAL
        if state == LISTEN if protocol == "tcp" else bound:
            yield port

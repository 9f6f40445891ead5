"""Which ports workloads listen on: that tells server from client where no SYN was seen."""

from __future__ import annotations

from netwatch.agent.tables import Read, waiting

EPHEMERAL = 32_768  # the kernel's default ip_local_port_range begins here


def listening(pid: int, read: Read = waiting) -> frozenset[tuple[str, int]]:
    """(protocol, port) pairs that somebody in the namespace of `pid` listens on.

    A UDP socket in the ephemeral range is taken for a client's. A process that is gone has none.
    """
    return frozenset(
        (each.protocol, each.port)
        for each in read(pid)
        if each.waits and (each.protocol == "tcp" or 0 < each.port < EPHEMERAL)
    )

"""Fills the connection table of a network namespace, as a host under a flood has it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from netwatch.enforce import netlink, sockets
from netwatch.enforce.sockets import Talk

ASSURED = (
    0xE  # seen a reply, assured, confirmed: the kernel throws none of these out for a new one
)
ROOM = 60_000  # bytes in one message to the kernel
DELETE = 2  # IPCTNL_MSG_CT_DELETE


def most() -> int:
    """How many entries one namespace may have; the limit is the machine's and is not set here."""
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())


def fill(number: int) -> None:
    """So many assured entries of UDP, of nobody's addresses, in the caller's namespace."""
    with netlink.connect() as link:
        batch, size = [], 0
        for request in _entries(number):
            batch.append(request)
            size += len(request)
            if size > ROOM:
                link.send(b"".join(batch))
                batch, size = [], 0
        link.send(b"".join(batch))


def empty() -> None:
    """No entry is left."""
    code = netlink.send(
        netlink.message(netlink.CONNTRACK << 8 | DELETE, netlink.ACK, socket.AF_UNSPEC)
    )
    assert code == 0


def _entries(number: int) -> Iterator[bytes]:
    """One message that creates an entry each; made from one, whose ports are written anew."""
    talk = Talk("203.0.113.1", 0x1111, "203.0.113.2", 0x2222, "udp")
    there = sockets._tuple(socket.AF_INET, talk)
    turned = Talk(talk.server, talk.port, talk.client, talk.client_port, "udp")
    body = b"".join(
        (
            netlink.nested(1, there),
            netlink.nested(2, sockets._tuple(socket.AF_INET, turned)),
            netlink.attribute(3, struct.pack("!I", ASSURED)),
            netlink.attribute(7, struct.pack("!I", 600)),
        )
    )
    flags = netlink.CREATE | netlink.EXCL
    made = netlink.message(netlink.CONNTRACK << 8, flags, socket.AF_INET, body)
    parts = made.split(b"\x11\x11")
    assert len(parts) == 3  # its port stands in both directions
    for n in range(number):
        client, server = struct.pack("!H", n & 0xFFFF), struct.pack("!H", 1 + (n >> 16))
        yield client.join(parts).replace(b"\x22\x22", server)

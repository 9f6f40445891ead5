"""Live sessions in conntrack: those that new rules forbid are cut, because ESTABLISHED goes first.

linux/netfilter/nfnetlink_conntrack.h. A deleted entry makes the next packet NEW: judged by the
rules, and dropped between isolated ends if it is TCP without SYN.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from netwatch.enforce import netlink
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.sockets import Talk
from netwatch.enforce.walk import DENY, Packet, Walker

GET, DELETE = 1, 2
TUPLE_ORIG, TUPLE_REPLY, ID = 1, 2, 12
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_TUPLES = (52, 76)  # bytes of a tuple with ports, IPv4 and IPv6, as ctnetlink_fill_info writes it
MAX_KINDS = 65_536
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Session:
    """A tracked call as the forwarding host sees it: source before SNAT, destination after DNAT.

    `asked` is the destination before DNAT; `key` names the entry to the kernel.
    """

    family: int
    protocol: str
    source: str
    source_port: int | None
    destination: str
    port: int | None
    asked: str
    asked_port: int | None
    key: bytes

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} {self.protocol}/{self.port}"

    @property
    def talk(self) -> Talk:
        """The same by its ends, as sockets know it; 0 for a port that there is none of."""
        ports = self.source_port or 0, self.port or 0
        return Talk(self.source, ports[0], self.destination, ports[1], self.protocol)


def live_sessions() -> Iterator[Session]:
    """Every entry of conntrack in the network namespace of the calling thread."""
    for body, family in _entries():
        session = _session(body, family)
        if session is not None:
            yield session


def _entries() -> Iterator[tuple[bytes, int]]:
    for family, number in _FAMILIES.items():
        for body in netlink.dump(netlink.CONNTRACK << 8 | GET, number):
            yield body, family


def _session(body: bytes, family: int) -> Session | None:
    found = netlink.attributes(body)
    if TUPLE_ORIG not in found or TUPLE_REPLY not in found:
        return None
    there, back = _tuple(found[TUPLE_ORIG]), _tuple(found[TUPLE_REPLY])
    if there is None or back is None:
        return None
    key = netlink.nested(TUPLE_ORIG, found[TUPLE_ORIG])
    if ID in found:
        key += netlink.attribute(ID, found[ID])
    return Session(family, there[0], there[1], there[3], back[1], back[3], there[2], there[4], key)


def _tuple(data: bytes) -> tuple[str, str, str, int | None, int | None] | None:
    """(protocol, source, destination, source port, destination port) of one direction."""
    parts = netlink.attributes(data)
    addresses, ports = netlink.attributes(parts.get(1, b"")), netlink.attributes(parts.get(2, b""))
    family, source, destination = (
        (socket.AF_INET, 1, 2) if 1 in addresses else (socket.AF_INET6, 3, 4)
    )
    if source not in addresses or destination not in addresses or 1 not in ports:
        return None
    number = ports[1][0]
    return (
        _NAMES.get(number, str(number)),
        socket.inet_ntop(family, addresses[source]),
        socket.inet_ntop(family, addresses[destination]),
        _port(ports.get(2)),
        _port(ports.get(3)),
    )


def _port(raw: bytes | None) -> int | None:
    return None if raw is None else int(struct.unpack("!H", raw[:2])[0])


def forbidden(
    ruleset: Ruleset, host: Collection[str], *, either_way: bool = False
) -> list[Session]:
    """The live sessions that this ruleset would not let begin.

    `either_way`: conntrack may have met a session in its middle and taken the answer for the
    question (it did not look before the first activation); such a one stays if it may begin in
    either direction.
    """
    verdict = lru_cache(MAX_KINDS)(Walker(ruleset).verdict)
    passing: set[bytes] = set()
    found = []
    for body, family in _entries():
        kind = _kind(body)
        if kind in passing:
            continue
        session = _session(body, family)
        if session is None:
            continue
        if verdict(_packet(session, host)) != DENY:
            if kind and len(passing) < MAX_KINDS:
                passing.add(kind)
        elif not (either_way and verdict(_turned(session, host)) != DENY):
            found.append(session)
    return found


def _kind(body: bytes) -> bytes:
    """What sessions that differ by the client's port only have in common; empty if not known.

    A full table (262,144 entries by default) takes 12 s to read as values, and 1 s by kinds.
    """
    size = int.from_bytes(body[:2], sys.byteorder)
    same = body[size : size + 2] == body[:2]
    if size not in _TUPLES or not same or body[size - 20] not in (6, 17):
        return b""
    return body[: size - 12] + body[size - 10 : 2 * size - 4]


def _packet(session: Session, host: Collection[str]) -> Packet:
    hook = "NW-FWD"
    if session.source in host:
        hook = "NW-OUT"
    elif session.destination in host:
        hook = "NW-IN"
    return Packet(hook, session.source, session.destination, session.protocol, session.port)


def _turned(session: Session, host: Collection[str]) -> Packet:
    hook = "NW-FWD"
    if session.destination in host:
        hook = "NW-OUT"
    elif session.source in host:
        hook = "NW-IN"
    return Packet(hook, session.destination, session.source, session.protocol, session.source_port)


def cut(session: Session) -> None:
    """Forget a session; one that ended meanwhile is no error."""
    number = _FAMILIES[session.family]
    netlink.send(
        netlink.message(netlink.CONNTRACK << 8 | DELETE, netlink.ACK, number, session.key)
    )

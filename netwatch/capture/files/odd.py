"""The packets that are not regular, read one by one: options, extension headers, fragments,
protocols without ports, and headers that were cut off.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

ICMP, TCP, UDP, DCCP, ICMP6, SCTP, UDPLITE = 1, 6, 17, 33, 58, 132, 136
IP4, IP6 = 0x0800, 0x86DD

# Our own flag bits: those of TCP that tell how a connection went; SYN is a SYN without ACK, and
# OPENS says that the packet's sender is the client though the protocol has no SYN.
FIN, SYN, RST, SYNACK, ACK, OPENS = 1, 2, 4, 8, 16, 32

_PORTED = (TCP, UDP, DCCP, SCTP, UDPLITE)
# RFC 8200 section 4: hop-by-hop, routing, destination options, and those of later documents.
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})
_FRAGMENT, _AUTHENTICATION = 44, 51
# No stack sends longer chains; a longer one is shown with the protocol reached so far.
_CHAIN = 16
_SCTP_INIT = 1


def flags(byte: int) -> int:
    """The flag byte of a TCP header in our bits."""
    found = (FIN if byte & 1 else 0) | (RST if byte & 4 else 0) | (ACK if byte & 16 else 0)
    if byte & 2:
        found |= SYNACK if byte & 16 else SYN
    return found


@dataclass(frozen=True, slots=True)
class Packet:
    """Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; `start` counts from the network header."""

    version: int
    protocol: int
    source: bytes
    target: bytes
    source_port: int = 0
    target_port: int = 0
    flags: int = 0
    seq: int = 0
    length: int = 0
    payload: int = 0
    start: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class _Header:
    """A network header: who, what, where its payload starts and how long that is on the wire."""

    version: int
    source: bytes
    target: bytes
    protocol: int
    start: int
    length: int
    fragment: int | None
    position: int


class Fragments:
    """Remembers the ports of first fragments, so that later ones count to the same flow."""

    # Reassembly on Linux holds about this many at a time (ipfrag_high_thresh, 4 MB).
    LIMIT = 4096

    def __init__(self) -> None:
        self._ports: OrderedDict[tuple[bytes, bytes, int, int], tuple[int, int]] = OrderedDict()

    def first(self, key: tuple[bytes, bytes, int, int], ports: tuple[int, int]) -> None:
        """Remember what the first fragment of a datagram said."""
        self._ports[key] = ports
        if len(self._ports) > self.LIMIT:
            self._ports.popitem(last=False)

    def later(self, key: tuple[bytes, bytes, int, int]) -> tuple[int, int]:
        """The ports of a datagram's first fragment, or (0, 0) if it was not seen."""
        return self._ports.get(key, (0, 0))


def packet(data: bytes, kind: int, wire: int, fragments: Fragments) -> Packet | None:
    """Read one packet from its network header on; None if it is no IP packet at all.

    `kind` is the ethertype, `wire` the length that the packet had before it was cut off.
    """
    header = _ip4(data, wire) if kind == IP4 else _ip6(data, wire) if kind == IP6 else None
    if header is None:
        return None
    if header.position:
        key = (header.source, header.target, header.fragment or 0, header.protocol)
        return _packet(header, data, fragments.later(key), 0, (0, 0))
    body = data[header.start : header.start + max(header.length - header.start, 0)]
    ports = (0, 0)
    if header.protocol in _PORTED and len(body) >= 4:
        ports = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
    elif header.protocol in (ICMP, ICMP6) and len(body) >= 6:
        ports = _echo(header.protocol, body)
    if header.fragment is not None:
        key = (header.source, header.target, header.fragment, header.protocol)
        fragments.first(key, ports)
    return _packet(header, data, ports, _transport(header.protocol, body), _signals(header, body))


def _packet(
    header: _Header, data: bytes, ports: tuple[int, int], transport: int, signals: tuple[int, int]
) -> Packet:
    start = header.start + transport
    payload = max(header.length - start, 0)
    return Packet(
        header.version,
        header.protocol,
        header.source,
        header.target,
        ports[0],
        ports[1],
        signals[0],
        signals[1],
        header.length,
        payload,
        start,
        # What later fragments carry belongs behind the first one's; it is counted, not read.
        0 if header.position else min(max(len(data) - start, 0), payload),
    )


def _ip4(data: bytes, wire: int) -> _Header | None:
    if len(data) < 20 or data[0] >> 4 != 4 or data[0] & 15 < 5:
        return None
    start = (data[0] & 15) * 4
    length = int.from_bytes(data[2:4], "big") or wire
    piece = int.from_bytes(data[6:8], "big")
    mapped = bytes(10) + b"\xff\xff"
    return _Header(
        4,
        mapped + data[12:16],
        mapped + data[16:20],
        data[9],
        start,
        max(length, start),
        int.from_bytes(data[4:6], "big") if piece & 0x3FFF else None,
        piece & 0x1FFF,
    )


def _ip6(data: bytes, wire: int) -> _Header | None:
    if len(data) < 40 or data[0] >> 4 != 6:
        return None
    length = int.from_bytes(data[4:6], "big")
    length = length + 40 if length else max(wire, 40)
    protocol, at, fragment, position = data[6], 40, None, 0
    for _ in range(_CHAIN):
        if position or at + 8 > len(data):
            break
        if protocol == _FRAGMENT:
            position = int.from_bytes(data[at + 2 : at + 4], "big") >> 3
            fragment = int.from_bytes(data[at + 4 : at + 8], "big")
            size = 8
        elif protocol == _AUTHENTICATION:
            size = (data[at + 1] + 2) * 4
        elif protocol in _EXTENSIONS:
            size = (data[at + 1] + 1) * 8
        else:
            break
        protocol, at = data[at], at + size
    return _Header(6, data[8:24], data[24:40], protocol, at, max(length, at), fragment, position)


def _echo(protocol: int, body: bytes) -> tuple[int, int]:
    echoes = (0, 8) if protocol == ICMP else (128, 129)
    if body[0] not in echoes:
        return 0, 0
    identifier = int.from_bytes(body[4:6], "big")
    return identifier, identifier


def _transport(protocol: int, body: bytes) -> int:
    """The length of the transport header."""
    if protocol == TCP:
        return max((body[12] >> 4) * 4, 20) if len(body) > 12 else 20
    if protocol in (UDP, ICMP, ICMP6, UDPLITE):
        return 8
    return 12 if protocol in (SCTP, DCCP) else 0


def _signals(header: _Header, body: bytes) -> tuple[int, int]:
    """Flags and sequence number."""
    if header.protocol == TCP and len(body) >= 14:
        return flags(body[13]), int.from_bytes(body[4:8], "big")
    opens = (
        (header.protocol == SCTP and len(body) > 12 and body[12] == _SCTP_INIT)
        or (header.protocol == ICMP and body[:1] == b"\x08")
        or (header.protocol == ICMP6 and body[:1] == b"\x80")
    )
    return (OPENS if opens else 0), 0

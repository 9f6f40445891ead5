"""The packets that are not regular, read one by one: options, extension headers, fragments,
tunnels, protocols without ports, and headers that were cut off.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from netwatch.capture.files.fragments import Fragments
from netwatch.capture.files.paths import Layer, Paths
from netwatch.capture.files.tunnels import IP4, inside, network

ICMP, TCP, UDP, DCCP, ICMP6, SCTP, UDPLITE = 1, 6, 17, 33, 58, 132, 136

# Our own flag bits: those of TCP that tell how a connection went; SYN is a SYN without ACK, and
# OPENS says that the packet's sender is the client though the protocol has no SYN.
FIN, SYN, RST, SYNACK, ACK, OPENS = 1, 2, 4, 8, 16, 32

_PORTED = (TCP, UDP, DCCP, SCTP, UDPLITE)
# RFC 8200 section 4: hop-by-hop, routing, destination options, and those of later documents.
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})
_FRAGMENT = 44
# No stack sends longer chains; a longer one is shown with the protocol reached so far.
_CHAIN = 16
# Tunnels in tunnels; what is deeper is shown as the tunnel.
_DEPTH = 8
_SCTP_INIT = 1


def flags(byte: int) -> int:
    """The flag byte of a TCP header in our bits."""
    found = (FIN if byte & 1 else 0) | (RST if byte & 4 else 0) | (ACK if byte & 16 else 0)
    if byte & 2:
        found |= SYNACK if byte & 16 else SYN
    return found


@dataclass(frozen=True, slots=True)
class Packet:
    """Addresses are 4 or 16 bytes. `start` counts from the first byte given to `packet`; `whole`
    is the transport's payload where this packet completed a fragmented datagram.

    `lost`: it is a fragment whose first one was not seen yet.
    """

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
    whole: bytes = b""
    lost: bool = False
    vlan: tuple[int, ...] = ()
    layers: tuple[Layer, ...] = ()


@dataclass(slots=True)
class Memory:
    """What must be known of earlier packets. `damaged` counts those that no host would take."""

    fragments: Fragments = field(default_factory=Fragments)
    paths: Paths = field(default_factory=Paths)
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class _Header:
    """A network header: who, what, where its payload starts and how long that is on the wire.

    `position` is a fragment's offset in bytes, `more` says that others follow it.
    """

    source: bytes
    target: bytes
    protocol: int
    start: int
    length: int
    fragment: int | None
    position: int
    more: bool

    def key(self) -> tuple[bytes, bytes, int, int]:
        """What all fragments of one datagram share."""
        return self.source, self.target, self.fragment or 0, self.protocol


def packet(data: bytes, kind: int, wire: int, memory: Memory) -> Packet | None:
    """Read one packet from behind its link layer on; None if it is no IP packet at all.

    `kind` is the ethertype, `wire` the length that the packet had before it was cut off. Also
    None: a later fragment of a tunnel's packet, as that packet was counted with the first one.
    """
    place = network(data, kind)
    vlan: tuple[int, ...] = ()
    layers: tuple[Layer, ...] = ()
    around: _Header | None = None
    result: Packet | None = None
    base = 0
    for _ in range(_DEPTH):
        if place is None:
            break
        base += place.start
        data, wire = data[place.start :], wire - place.start
        header = _ip4(data, wire) if place.kind == IP4 else _ip6(data, wire)
        if header is None:
            break
        if header.length > wire and place.kind == IP4 and not _sound(data[: header.start]):
            memory.damaged += 1
            break
        if around is not None and around.fragment is not None:
            memory.fragments.first(around.key(), (0, 0), tunnelled=True)
        vlan += place.vlan
        layers += tuple(_layer(*wrap, around) for wrap in place.wraps)
        if header.position and memory.fragments.tunnelled(header.key()):
            return None
        body = data[header.start : header.length]
        result = replace(_packet(header, data, body, base, memory), vlan=vlan, layers=layers)
        if header.position:
            break
        place = inside(header.protocol, body, (result.source_port, result.target_port))
        data, base, around = body, base + header.start, header
        wire = max(header.length - header.start, 0)
    return result


def _layer(kind: str, number: int | None, around: _Header | None) -> Layer:
    # Labels and sessions lie between two neighbours; they have no ends of their own.
    if around is None or kind in ("mpls", "pppoe"):
        return Layer(kind, number)
    return Layer(kind, number, around.source, around.target)


def _packet(header: _Header, data: bytes, body: bytes, base: int, memory: Memory) -> Packet:
    ports, signals = _ports(header, body), _signals(header, body)
    transport, whole, lost = _transport(header.protocol, body), b"", False
    if header.fragment is not None:
        if not header.position:
            memory.fragments.first(header.key(), ports, tunnelled=False)
        known = memory.fragments.ports(header.key())
        ports, lost = known or (0, 0), known is None
        done = None
        if len(data) >= header.length:
            done = memory.fragments.add(header.key(), header.position, body, last=not header.more)
        if done is not None:
            whole = done[_transport(header.protocol, done) :]
        if header.position:
            transport, signals = 0, (0, int.from_bytes((done or b"")[4:8], "big"))
    start = header.start + transport
    payload = max(header.length - start, 0)
    # What a fragment carries is read when the datagram is whole, except the start of a stream.
    readable = header.fragment is None or (header.protocol == TCP and not header.position)
    return Packet(
        header.protocol,
        header.source,
        header.target,
        ports[0],
        ports[1],
        signals[0],
        signals[1],
        header.length,
        payload,
        base + start,
        min(max(len(data) - start, 0), payload) if readable else 0,
        whole,
        lost,
    )


def _sound(header: bytes) -> bool:
    """Whether the checksum of an IPv4 header is right (RFC 1071).

    It is asked only of packets that claim more than their frame had. The sender's kernel leaves
    checksums to the hardware, so a wrong one alone proves nothing; some tools that cut frames off
    forget how long they were, so a wrong length alone does not either. With both, the header is
    damaged, and what it says of ends and sizes never happened. Zero: it was never reckoned.
    """
    if header[10:12] == b"\x00\x00":
        return True
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    return total % 0xFFFF == 0


def _ip4(data: bytes, wire: int) -> _Header | None:
    if len(data) < 20 or data[0] >> 4 != 4 or data[0] & 15 < 5:
        return None
    start = (data[0] & 15) * 4
    length = int.from_bytes(data[2:4], "big") or wire
    piece = int.from_bytes(data[6:8], "big")
    return _Header(
        data[12:16],
        data[16:20],
        data[9],
        start,
        max(length, start),
        int.from_bytes(data[4:6], "big") if piece & 0x3FFF else None,
        (piece & 0x1FFF) * 8,
        bool(piece & 0x2000),
    )


def _ip6(data: bytes, wire: int) -> _Header | None:
    if len(data) < 40 or data[0] >> 4 != 6:
        return None
    length = int.from_bytes(data[4:6], "big")
    length = length + 40 if length else max(wire, 40)
    protocol, at, fragment, position, more = data[6], 40, None, 0, False
    for _ in range(_CHAIN):
        if position or at + 8 > len(data):
            break
        if protocol == _FRAGMENT:
            piece = int.from_bytes(data[at + 2 : at + 4], "big")
            position, more = piece & 0xFFF8, bool(piece & 1)
            # A fragment that is the whole datagram is none (RFC 6946).
            if position or more:
                fragment = int.from_bytes(data[at + 4 : at + 8], "big")
            size = 8
        elif protocol in _EXTENSIONS:
            size = (data[at + 1] + 1) * 8
        else:
            break
        protocol, at = data[at], at + size
    return _Header(
        data[8:24], data[24:40], protocol, at, max(length, at), fragment, position, more
    )


def _ports(header: _Header, body: bytes) -> tuple[int, int]:
    if header.protocol in _PORTED and len(body) >= 4:
        return int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
    # Echoes have no ports, but an identifier tells them apart.
    echoes = {ICMP: (0, 8), ICMP6: (128, 129)}.get(header.protocol, ())
    if len(body) >= 6 and body[0] in echoes:
        identifier = int.from_bytes(body[4:6], "big")
        return identifier, identifier
    return 0, 0


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

"""Hears what the rules log: NFLOG of one group, in batches (linux/netfilter/nfnetlink_log.h).

One message for a packet costs Python three times what 64 in a batch cost, so the kernel is asked
to wait for 64 or a tenth of a second. A flood must not fail the reader: ENOBUFS is switched off,
and the kernel's own numbers tell how many messages did not arrive.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netwatch.enforce import netlink
from netwatch.enforce.probed import Probed
from netwatch.enforce.render import NFLOG_GROUP
from netwatch.model.errors import NetwatchError
from netwatch.model.probe import PORTS

ULOG, PACKET, CONFIG = 4, 0, 1
COMMAND, MODE, BUFFER, TIMEOUT, THRESHOLD, FLAGS = 1, 2, 3, 4, 5, 6
BIND = 1
COPY_PACKET, NUMBERED = 2, 1
PORT, PAYLOAD, PREFIX, NUMBER = 6, 9, 10, 12  # PORT: of a bridge, NFULA_IFINDEX_PHYSINDEV
COPY_RANGE = 96  # an IPv6 header, one extension and the ports
BATCH = 64
WAIT_CS = 10
BUFFER_SIZE = 131072  # the kernel's largest
RECEIVE_BUFFER = 8 << 20
NO_ENOBUFS = 5  # NETLINK_NO_ENOBUFS
SOL_NETLINK = 270
MAX_KEYS = 65_536  # different (kind, ends, protocol, port) in one interval
_KINDS = {
    b"D": "denied",
    b"A": "would-deny",
    b"U": "unknown",
    b"Q": "quarantined",
    b"S": "spoofed",
}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_PORTED = frozenset((6, 17, 132))
_EXTENSIONS = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options (RFC 8200)
_header = struct.Struct("=IH").unpack_from
_attribute = struct.Struct("=HH").unpack_from


@dataclass(frozen=True, slots=True)
class Heard:
    """Packets of one kind, from one address to one port of another."""

    kind: str
    source: str
    destination: str
    protocol: str
    port: int | None
    count: int
    first: int
    last: int
    interface: int = 0
    """Index of the port of a bridge that sent it; of those that are spoofed only."""


class Tally:
    """Counts messages by what they say, `room` of them; what is left out is counted aside.

    `probed` gives netwatch's own probes of late: what the rules say of them is set aside too.
    """

    def __init__(
        self,
        probed: Callable[[int], frozenset[Probed]] = lambda now: frozenset(),
        *,
        room: int = MAX_KEYS,
    ) -> None:
        self._probed = probed
        self._room = room
        self._counts: dict[bytes, list[int]] = {}
        self._expected: int | None = None
        self.lost = 0
        self.overflow = 0
        self.unreadable = 0
        self.probes = 0

    def add(self, data: bytes, now: int) -> int:
        """Count the messages of one datagram; returns how many there were."""
        counts = self._counts
        at, size, found = 0, len(data), 0
        while at + 20 <= size:
            length, kind = _header(data, at)
            if length < 16:
                break
            if kind == ULOG << 8 | PACKET:
                found += 1
                key, port = self._key(data, at + 20, min(at + length, size))
                known = counts.get(key)
                if port in PORTS and self._is_probe(key, port, now):
                    self.probes += 1
                elif known is not None:
                    known[0] += 1
                    known[2] = now
                elif not key:
                    self.unreadable += 1
                elif len(counts) < self._room:
                    counts[key] = [1, now, now]
                else:
                    self.overflow += 1
            at += (length + 3) & ~3
        return found

    def _is_probe(self, key: bytes, port: int, now: int) -> bool:
        heard = _heard(key, 1, now, now)
        ends = heard.protocol, heard.source, port, heard.destination, heard.port or 0
        return Probed(*ends) in self._probed(now)

    def _key(self, data: bytes, at: int, end: int) -> tuple[bytes, int]:
        """Kind, version, protocol, both addresses, the port and for what is spoofed the sender's
        interface, as bytes; empty if unreadable.

        And the source port, 0 where there is none.
        """
        letter = packet = b""
        sender = bytes(4)
        while at + 4 <= end:
            size, kind = _attribute(data, at)
            if size < 4:
                break
            if kind == PAYLOAD:
                packet = data[at + 4 : at + size]
            elif kind == PREFIX:
                letter = data[at + 7 : at + 8]  # nw:X:
            elif kind == PORT:
                sender = data[at + 4 : at + 8]
            elif kind == NUMBER:
                self._follow(int.from_bytes(data[at + 4 : at + 8], "big"))
            at += (size + 3) & ~3
        ends, port = _read(packet)
        if not ends or letter not in _KINDS:
            return b"", 0
        return letter + ends + (sender if letter == b"S" else b""), port

    def _follow(self, number: int) -> None:
        if self._expected is not None and number != self._expected:
            self.lost += (number - self._expected) & 0xFFFFFFFF
        self._expected = (number + 1) & 0xFFFFFFFF

    def take(self) -> list[Heard]:
        """Everything counted since the last time."""
        counts, self._counts = self._counts, {}
        return [_heard(key, *values) for key, values in counts.items()]


def five(packet: bytes) -> bytes:
    """Version, protocol, both addresses and the destination port of an IP packet, or nothing."""
    return _read(packet)[0]


def _read(packet: bytes) -> tuple[bytes, int]:
    """What `five` tells, and the source port."""
    if len(packet) < 20:
        return b"", 0
    version = packet[0] >> 4
    if version == 4:
        protocol, ends, at = packet[9], packet[12:20], (packet[0] & 15) * 4
        later = (packet[6] & 0x1F) | packet[7]  # of a datagram in pieces only the first has ports
    elif version == 6 and len(packet) >= 40:
        protocol, ends, at, later = packet[6], packet[8:40], 40, 0
        while protocol in _EXTENSIONS and at + 8 <= len(packet):
            protocol, at = packet[at], at + 8 + 8 * packet[at + 1]
    else:
        return b"", 0
    ports = packet[at : at + 4] if protocol in _PORTED and not later else b""
    return bytes((version, protocol)) + ends + ports[2:], int.from_bytes(ports[:2], "big")


def _heard(key: bytes, count: int, first: int, last: int) -> Heard:
    family, width = (socket.AF_INET, 4) if key[1] == 4 else (socket.AF_INET6, 16)
    source, destination = (socket.inet_ntop(family, key[at : at + width]) for at in (3, 3 + width))
    port, interface = key[3 + 2 * width :], 0
    if key[:1] == b"S":
        port, interface = port[:-4], int.from_bytes(port[-4:], "big")
    return Heard(
        _KINDS[key[:1]],
        source,
        destination,
        _PROTOCOLS.get(key[2], str(key[2])),
        int.from_bytes(port, "big") if len(port) == 2 else None,
        count,
        first,
        last,
        interface,
    )


def listen() -> socket.socket:
    """A socket that hears the rules' group in the network namespace of the calling thread.

    Raises NetwatchError where somebody else hears it already, or the kernel has no NFLOG.
    """
    link = netlink.connect()
    try:
        link.setsockopt(SOL_NETLINK, NO_ENOBUFS, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # No PF_BIND: rules that name a group need none, and the switch nf_log would stay changed.
        _ask(link, [netlink.attribute(COMMAND, bytes([BIND]))])
        _ask(
            link,
            [
                netlink.attribute(MODE, struct.pack("!IBB", COPY_RANGE, COPY_PACKET, 0)),
                netlink.attribute(BUFFER, struct.pack("!I", BUFFER_SIZE)),
                netlink.attribute(TIMEOUT, struct.pack("!I", WAIT_CS)),
                netlink.attribute(THRESHOLD, struct.pack("!I", BATCH)),
                netlink.attribute(FLAGS, struct.pack("!H", NUMBERED)),
            ],
        )
    except OSError as error:
        link.close()
        raise NetwatchError(
            f"denials can not be heard: {error.strerror or error}",
            "only one program hears group 100: is an agent running here?",
        ) from None
    return link


def _ask(
    link: socket.socket, parts: Iterable[bytes], *, family: int = 0, group: int = NFLOG_GROUP
) -> None:
    kind = ULOG << 8 | CONFIG
    link.send(netlink.message(kind, netlink.ACK, family, b"".join(parts), resource=group))
    while True:
        data = link.recv(65536)
        length, found = _header(data, 0)
        if found == netlink.ERROR and length >= 20:
            code = -int(struct.unpack_from("=i", data, 16)[0])
            if code:
                raise OSError(code, _why(code))
            return


def _why(code: int) -> str:
    return {16: "another program hears them", 1: "it needs root"}.get(code, f"error {code}")

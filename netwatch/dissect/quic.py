"""QUIC: the handshake of TLS 1.3, carried by packets whose first ones anybody can open.

Source: RFC 8999 (what holds for every version), RFC 9000 section 17 and 19 (packets, frames),
RFC 9369 (version 2). Initial packets are opened with the keys that they themselves give away; of
the packets that follow only the header is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from netwatch.dissect import gquic, records
from netwatch.dissect.dtls import joined
from netwatch.dissect.quic_keys import VERSIONS, Version, initial_keys
from netwatch.dissect.records import Direction
from netwatch.dissect.tls import Handshake, judge
from netwatch.model.flow import Encryption

_INITIAL, _HANDSHAKE, _RETRY = 0, 2, 3
# RFC 9000 section 17.2; Google's drafts allowed no more either.
_LONGEST_ID = 20
# Packets that are looked at, of each end, and first connection ids whose keys are tried. A
# client changes it once, after Retry.
_PACKETS, _IDS = 16, 3
_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO, _CLOSE, _CLOSE_APPLICATION = 0, 1, 2, 3, 6, 0x1C, 0x1D
_GOOGLE_CRYPTO = 8

# RFC 9000 section 15: versions that nobody speaks, to be refused; clients lay them out as 1.
_RESERVED = Version("", b"")


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet with a long header. `data` is the packet alone; `body_at` is where the hidden
    packet number is.
    """

    version: Version
    kind: int
    destination: bytes
    source: bytes
    data: bytes
    body_at: int


@dataclass(slots=True)
class _End:
    """What one end said: its Initials' stream in pieces, and what its headers show."""

    long: list[Packet] = field(default_factory=list)
    short: list[bytes] = field(default_factory=list)
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    opened: int = 0
    closed: bool = False
    version: Version | None = None


def negotiation(client: Sequence[bytes], server: Sequence[bytes]) -> Handshake | None:
    """Judge the first datagrams of both directions; None if neither opens with QUIC's packets."""
    ends = _read(client), _read(server)
    if not ends[0].long and not ends[1].long:
        return None
    first = [packet.destination for packet in ends[0].long if packet.kind == _INITIAL]
    ids = tuple(dict.fromkeys(first))[:_IDS]
    _open(ends[0], ids, server=False)
    _open(ends[1], ids, server=True)
    version = ends[1].version or ends[0].version or (ends[0].long or ends[1].long)[0].version
    said = joined(ends[0].pieces)
    if said.startswith(gquic.HELLO):
        return gquic.claim(said, version.name)
    directions = _direction(ends[0], ends[1]), _direction(ends[1], ends[0])
    found = judge(*directions, protocol="quic", version=version.name)
    if found is not None:
        return found
    # Neither hello is there: the version and lengths that fit are what the claim rests on.
    return Handshake(
        None, None, Encryption("unknown", "content", "quic", version.name), finished=False
    )


def _read(datagrams: Sequence[bytes]) -> _End:
    end = _End()
    for data in datagrams:
        at = 0
        while at < len(data) and len(end.long) < _PACKETS:
            if not data[at] & 0x80:
                # The short header has no length: it is the last of its datagram.
                end.short.append(data[at : at + 1 + _LONGEST_ID])
                break
            packet = _packet(data, at)
            if packet is None:
                break
            if packet.version is not _RESERVED:
                end.long.append(packet)
            at += len(packet.data)
            while data[at : at + 1] == b"\x00":
                at += 1
    return end


def _packet(data: bytes, at: int) -> Packet | None:
    """The packet that starts here, or None if it is none of a version that is known."""
    number = data[at + 1 : at + 5]
    version = VERSIONS.get(number) or (_RESERVED if reserved(data, at) else None)
    # The bit behind the first means nothing: ends may agree to vary it (RFC 9287).
    if version is None:
        return None
    kind = data[at] >> 4 & 3
    kind = (kind - 1) & 3 if version.second else kind
    here, destination = _id(data, at + 5)
    here, source = _id(data, here)
    if kind == _RETRY:
        return Packet(version, kind, destination, source, data[at:], 0) if here else None
    token = 0
    if kind == _INITIAL:
        here, token = _varint(data, here)
    here, length = _varint(data, here + token)
    if not here or here + length > len(data) or length < 20:
        return None
    return Packet(version, kind, destination, source, data[at : here + length], here - at)


def reserved(data: bytes, at: int = 0) -> bool:
    """Whether the version in a packet exists to be refused only."""
    number = int.from_bytes(data[at + 1 : at + 5], "big")
    return number & 0x0F0F0F0F == 0x0A0A0A0A


def _id(data: bytes, at: int) -> tuple[int, bytes]:
    """A connection id, and where it ends; 0 and none if it does not fit."""
    if not 0 < at < len(data) or data[at] > _LONGEST_ID or at + 1 + data[at] > len(data):
        return 0, b""
    end = at + 1 + data[at]
    return end, data[at + 1 : end]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Where a number ends, and the number (RFC 9000 section 16); 0 and 0 if it does not fit."""
    if not 0 < at < len(data):
        return 0, 0
    width = 1 << (data[at] >> 6)
    if at + width > len(data):
        return 0, 0
    return at + width, int.from_bytes(data[at : at + width], "big") & ((1 << 8 * width - 2) - 1)


def _open(end: _End, ids: Sequence[bytes], *, server: bool) -> None:
    """Read what the Initials carry, with whichever key opens them."""
    for packet in end.long:
        if packet.kind != _INITIAL:
            continue
        for connection in ids:
            keys = initial_keys(packet.version, connection, server=server)
            frames = keys.open(packet.data, packet.body_at)
            if frames is not None:
                end.opened += 1
                end.version = end.version or packet.version
                _frames(end, frames, packet.version)
                break


def _frames(end: _End, data: bytes, version: Version) -> None:
    """The frames that an Initial may have (RFC 9000 section 17.2.2), up to any other."""
    crypto = _GOOGLE_CRYPTO if version.google else _CRYPTO
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == crypto:
            here, offset = _varint(data, at + 1)
            here, length = _varint(data, here)
            if not here or here + length > len(data):
                return
            end.pieces.append((offset, data[here : here + length]))
            at = here + length
        elif version.google and kind >> 5 == 2:
            at = _after_google_ack(data, at)
        elif kind in (_ACK, _ACK_ECN):
            at = _after_ack(data, at)
        elif kind == _PADDING:
            # Most of an Initial; one by one, these cost more than all else.
            at = len(data) - len(data[at:].lstrip(b"\x00"))
        elif kind == _PING:
            at += 1
        else:
            end.closed = kind in (_CLOSE, _CLOSE_APPLICATION)
            return


def _after_google_ack(data: bytes, at: int) -> int:
    """One block of acknowledgements and no times: largest, delay, block, number of times."""
    widths = (1, 2, 4, 6)
    end = at + 5 + widths[data[at] >> 2 & 3] - 1 + widths[data[at] & 3]
    return end if data[end - 1 : end] == b"\x00" else len(data)


def _after_ack(data: bytes, at: int) -> int:
    """Where an ACK ends, or the end of everything if it does not fit."""
    numbers = 3 if data[at] == _ACK_ECN else 0
    here, _ = _varint(data, at + 1)
    here, _ = _varint(data, here)
    here, ranges = _varint(data, here)
    numbers += 1 + 2 * ranges
    while here and numbers:
        here, _ = _varint(data, here)
        numbers -= 1
    return here or len(data)


def _direction(end: _End, peer: _End) -> Direction:
    """What one end said, as a direction of TLS; what its peer called itself proves its packets."""
    names = {packet.source for packet in peer.long if packet.source}
    sealed = any(
        packet.kind == _HANDSHAKE and (not names or packet.destination in names)
        for packet in end.long
    )
    sealed = sealed or any(short.startswith(name, 1) for short in end.short for name in names)
    return Direction(
        records=len(end.long),
        data=sealed,
        failed=end.closed,
        messages=records.messages(joined(end.pieces)),
    )

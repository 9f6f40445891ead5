"""DTLS: TLS's handshake in datagrams, where messages come in fragments, twice, and out of order.

Source: RFC 6347 (1.0 and 1.2) and RFC 9147 (1.3). Only records of epoch 0 are in the clear.
"""

from __future__ import annotations

from collections.abc import Sequence

from netwatch.dissect.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    HANDSHAKE,
    Direction,
)
from netwatch.dissect.tls import Handshake, judge

# The record header's version: 1.0, 1.2 (1.3 says so, too) and OpenSSL's from before the RFC.
_VERSIONS = (b"\xfe\xff", b"\xfe\xfd", b"\x01\x00")
_HEADER, _FRAGMENT = 13, 12
_CONNECTION_ID = 25
_LONGEST = (1 << 14) + 2048
_STUN_COOKIE = b"\x21\x12\xa4\x42"
_FATAL = 2

# By sequence number and type (a server that keeps no state until it sees a cookie starts anew at
# 0): the message's length, and its pieces by offset.
_Fragments = dict[tuple[int, int], tuple[int, list[tuple[int, bytes]]]]


def negotiation(client: Sequence[bytes], server: Sequence[bytes]) -> Handshake | None:
    """Judge the first datagrams of both directions; None if neither holds records of DTLS."""
    ends = [direction(said) for said in (client, server)]
    if not any(end.records for end in ends):
        return None
    return judge(ends[0], ends[1], protocol="dtls")


def direction(datagrams: Sequence[bytes]) -> Direction:
    """Read what one end said. What shares the ports with DTLS (RFC 7983) is passed over."""
    seen = Direction()
    fragments: _Fragments = {}
    for data in datagrams:
        _datagram(seen, data, fragments)
    for (_, kind), (length, pieces) in sorted(fragments.items()):
        body = joined(pieces)[:length]
        whole = len(body) == length
        seen.messages.append(
            (kind, _without_cookie(body) if kind == CLIENT_HELLO else body, whole)
        )
    return seen


def joined(pieces: list[tuple[int, bytes]]) -> bytes:
    """Pieces of a stream by their offsets, up to the first gap; what came twice counts once."""
    stream = bytearray()
    for at, data in sorted(pieces):
        if at > len(stream):
            break
        stream += data[len(stream) - at :]
    return bytes(stream)


def _datagram(seen: Direction, data: bytes, fragments: _Fragments) -> None:
    at = _passed_over(data, 0)
    while at < len(data):
        if seen.records and data[at] & 0xE0 == 0x20:
            # RFC 9147 section 4: the short header of 1.3, which exists under a key only.
            seen.data = True
            return
        length = _record(data, at)
        if length is None:
            seen.broken = seen.broken or (seen.records > 0 and data[at] not in _MEDIA)
            return
        seen.records += 1
        seen.header = int.from_bytes(data[at + 1 : at + 3], "big")
        body = data[at + _HEADER : at + _HEADER + length]
        if data[at + 3 : at + 5] != b"\x00\x00":
            seen.data = True
            seen.closing = seen.closing or data[at] == HANDSHAKE
        elif data[at] == HANDSHAKE:
            _fragments(body, fragments)
        else:
            _note(seen, data[at], body)
        at = _passed_over(data, at + _HEADER + length)


# RFC 7983 section 7: RTP and RTCP, which DTLS may have agreed the keys of.
_MEDIA = range(128, 192)


def _passed_over(data: bytes, at: int) -> int:
    """Where STUN on the same ports ends that may come here."""
    while data[at + 4 : at + 8] == _STUN_COOKIE and data[at] < 4:
        at += 20 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _record(data: bytes, at: int) -> int | None:
    """The length of the record's content, or None if this is not a record."""
    if data[at + 1 : at + 3] not in _VERSIONS or at + _HEADER > len(data):
        return None
    if not CHANGE_CIPHER_SPEC <= data[at] <= APPLICATION_DATA and data[at] != _CONNECTION_ID:
        return None
    if data[at] == _CONNECTION_ID:
        # RFC 9146: an identifier, whose length only the ends know, is in the header.
        return len(data) - at - _HEADER
    length = int.from_bytes(data[at + 11 : at + 13], "big")
    return length if length <= _LONGEST else None


def _note(seen: Direction, kind: int, body: bytes) -> None:
    if kind == CHANGE_CIPHER_SPEC:
        # One byte; OpenSSL's old version adds a sequence number.
        seen.sealed = seen.sealed or body[:1] == b"\x01"
    elif kind == ALERT and len(body) == 2 and not seen.protected():
        seen.failed = seen.failed or body[0] == _FATAL or body[1] == 0


def _fragments(body: bytes, fragments: _Fragments) -> None:
    """Section 4.2.2 of RFC 6347: type, length, sequence, offset and length of the fragment."""
    at = 0
    while at + _FRAGMENT <= len(body):
        length = int.from_bytes(body[at + 1 : at + 4], "big")
        number = int.from_bytes(body[at + 4 : at + 6], "big")
        offset = int.from_bytes(body[at + 6 : at + 9], "big")
        size = int.from_bytes(body[at + 9 : at + 12], "big")
        known = fragments.setdefault((number, body[at]), (length, []))
        if offset + size <= known[0] == length:
            known[1].append((offset, body[at + _FRAGMENT : at + _FRAGMENT + size]))
        at += _FRAGMENT + size


def _without_cookie(body: bytes) -> bytes:
    """A ClientHello as TLS has it: DTLS puts the cookie behind the session's id."""
    if len(body) < 35:
        return body
    at = 35 + body[34]
    return body[:at] + body[at + 1 + body[at] :] if at < len(body) else body

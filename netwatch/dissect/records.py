"""One direction of a TLS connection: its records, and the handshake messages they carry.

Records and messages are two framings that know nothing of each other: a message may span records,
and a record may hold several messages (RFC 8446 section 5.1). What follows the switch to
encryption is counted, not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, CERTIFICATE, SERVER_KEY_EXCHANGE = 1, 2, 11, 12
SERVER_HELLO_DONE, CLIENT_KEY_EXCHANGE = 14, 16

# RFC 5246 section 6.2.3: 2^14 of content and 2048 of expansion. Records are never longer.
_LONGEST = (1 << 14) + 2048
_HEADER = Struct(">BBBH").unpack_from
_FATAL, _CLOSE_NOTIFY = 2, 0


@dataclass(slots=True)
class Direction:
    """What one end said. `sealed`: it switched to encryption by ChangeCipherSpec. `data`: it sent
    records of application data. `closing`: sealed handshake messages followed the switch, as no
    TLS 1.3 has them. `failed`: it gave up in the clear. `broken`: bytes that are no record
    follow. `records` counts whole ones, `header` is the version in the last one's header;
    `messages` are (type, body, whole).
    """

    records: int = 0
    sealed: bool = False
    data: bool = False
    closing: bool = False
    failed: bool = False
    broken: bool = False
    header: int = 0
    messages: list[tuple[int, bytes, bool]] = field(default_factory=list)

    def message(self, kind: int) -> bytes | None:
        """The body of the first whole message of a type."""
        for each, body, whole in self.messages:
            if each == kind and whole:
                return body
        return None

    def protected(self) -> bool:
        """Whether it sent anything that only an agreed key can have sealed."""
        return self.sealed or self.data


def starts_like_tls(data: bytes) -> bool:
    """Whether these can be the first bytes of a record of SSLv3 to TLS 1.3; cheap."""
    return len(data) > 5 and data[0] in (20, 21, 22, 23) and data[1] == 3 and data[2] < 5


def direction(data: bytes) -> Direction:
    """Read what one end said, up to where the bytes end or stop being records."""
    seen = Direction()
    handshake = bytearray()
    at, end, minor, count = 0, len(data), 0, 0
    while at + 5 <= end:
        kind, major, minor, length = _HEADER(data, at)
        if not 20 <= kind <= 23 or major != 3 or minor > 4 or length > _LONGEST:
            seen.broken = True
            break
        begin, at = at + 5, at + 5 + length
        count += at <= end
        # Most records are these, and they are not read.
        if kind == APPLICATION_DATA:
            seen.data = True
            continue
        fragment = data[begin:at]
        if kind == HANDSHAKE:
            # After the switch these are encrypted; after a HelloRetryRequest the next hello is
            # not, and its first byte tells (RFC 8446 appendix D.4).
            if not seen.sealed or fragment[:2] in (b"\x01\x00", b"\x02\x00"):
                handshake += fragment
            else:
                seen.closing = True
        else:
            _note(seen, kind, fragment)
    seen.records, seen.header = count, 0x0300 | minor
    seen.messages = messages(bytes(handshake))
    return seen


def _note(seen: Direction, kind: int, fragment: bytes) -> None:
    if kind == CHANGE_CIPHER_SPEC:
        seen.sealed = seen.sealed or fragment == b"\x01"
        seen.broken = seen.broken or fragment not in (b"", b"\x01")
    elif len(fragment) == 2 and not seen.protected():
        # Warnings such as "unrecognized name" do not end a handshake.
        seen.failed = seen.failed or fragment[0] == _FATAL or fragment[1] == _CLOSE_NOTIFY


def messages(handshake: bytes) -> list[tuple[int, bytes, bool]]:
    """The messages in a stream of handshake bytes: (type, body, whole)."""
    found = []
    at, end = 0, len(handshake)
    while at + 4 <= end:
        length = handshake[at + 1] << 16 | handshake[at + 2] << 8 | handshake[at + 3]
        after = at + 4 + length
        found.append((handshake[at], handshake[at + 4 : after], after <= end))
        at = after
    return found

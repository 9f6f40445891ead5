"""The two hellos of TLS, read into numbers; everything else about TLS is derived from them.

This is on the path of every new connection, so it reads offsets out of one bytes object and makes
no copy that it does not keep. A body that does not add up raises Malformed: a hello is understood
whole or not at all.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SERVER_NAME = 0x0000
GROUPS = 0x000A
POINT_FORMATS = 0x000B
SIGNATURE_ALGORITHMS = 0x000D
ALPN = 0x0010
EARLY_DATA = 0x002A
SUPPORTED_VERSIONS = 0x002B
KEY_SHARE = 0x0033

# Another hello, encrypted, in the extensions of this one: RFC 9849 section 5, the drafts before it
# whose numbers were in use, and the first ones, which encrypted the name alone. Clients without
# anything to hide send bytes that look the same (section 6.2), so that hiding is no mark.
ECH = frozenset({*range(0xFE08, 0xFE0E), 0xFFCE})

# Those whose content is read.
_READ = frozenset(
    {SERVER_NAME, GROUPS, POINT_FORMATS, SIGNATURE_ALGORITHMS, ALPN, SUPPORTED_VERSIONS, KEY_SHARE}
)
_EXTENSION = struct.Struct(">HH").unpack_from

# RFC 8701: values that clients send so that servers stay tolerant; they mean nothing.
GREASE = frozenset(0x0A0A + 0x1010 * n for n in range(16))

# RFC 8446 section 4.1.3: the "random" of a ServerHello that asks for another ClientHello.
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class Malformed(Exception):
    """The bytes are not what their own lengths say."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offers, in its order; `extensions` are types, GREASE included."""

    version: int
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    server_name: str | None
    alpn: tuple[bytes, ...]
    groups: tuple[int, ...]
    point_formats: bytes
    signature_algorithms: tuple[int, ...]
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerHello:
    """What a server chose; `version` is the header's, `supported_version` the extension's."""

    version: int
    cipher: int
    extensions: tuple[int, ...]
    supported_version: int | None
    alpn: bytes | None
    group: int | None
    retry: bool


def client_hello(body: bytes) -> ClientHello:
    """Read the body of a ClientHello (RFC 8446 section 4.1.2); raises Malformed."""
    try:
        version = (body[0] << 8) | body[1]
        at = 35 + body[34]
        length = (body[at] << 8) | body[at + 1]
        at += 2
        ciphers = _numbers(body, at, length)
        at += length
        at += 1 + body[at]
        types, found = _extensions(body, at)
        return ClientHello(
            version,
            ciphers,
            types,
            _server_name(found.get(SERVER_NAME)),
            _names(found.get(ALPN)),
            _list16(found.get(GROUPS)),
            _list8(found.get(POINT_FORMATS)),
            _list16(found.get(SIGNATURE_ALGORITHMS)),
            _versions(found.get(SUPPORTED_VERSIONS)),
        )
    except (IndexError, struct.error) as error:
        raise Malformed from error


def server_hello(body: bytes) -> ServerHello:
    """Read the body of a ServerHello or HelloRetryRequest (RFC 8446 4.1.3); raises Malformed."""
    try:
        version = (body[0] << 8) | body[1]
        at = 35 + body[34]
        cipher = (body[at] << 8) | body[at + 1]
        types, found = _extensions(body, at + 3)
        chosen, share = found.get(SUPPORTED_VERSIONS), found.get(KEY_SHARE)
        names = _names(found.get(ALPN))
        return ServerHello(
            version,
            cipher,
            types,
            None if chosen is None else (chosen[0] << 8) | chosen[1],
            names[0] if names else None,
            None if share is None else (share[0] << 8) | share[1],
            body[2:34] == _RETRY,
        )
    except (IndexError, struct.error) as error:
        raise Malformed from error


def _extensions(body: bytes, at: int) -> tuple[tuple[int, ...], dict[int, bytes]]:
    # Hellos of SSLv3 and many of TLS 1.0 end before the extensions.
    if at == len(body):
        return (), {}
    end = at + 2 + ((body[at] << 8) | body[at + 1])
    if end > len(body):
        raise Malformed
    at += 2
    types = []
    found = {}
    while at < end:
        kind, length = _EXTENSION(body, at)
        at += 4
        types.append(kind)
        if kind in _READ:
            found[kind] = body[at : at + length]
        at += length
    if at > end:
        raise Malformed
    return tuple(types), found


def _numbers(body: bytes, at: int, length: int) -> tuple[int, ...]:
    return struct.unpack_from(f">{length >> 1}H", body, at)


def _list16(value: bytes | None) -> tuple[int, ...]:
    if not value:
        return ()
    return _numbers(value, 2, (value[0] << 8) | value[1])


def _list8(value: bytes | None) -> bytes:
    return value[1 : 1 + value[0]] if value else b""


def _versions(value: bytes | None) -> tuple[int, ...]:
    return _numbers(value, 1, value[0]) if value else ()


def _server_name(value: bytes | None) -> str | None:
    # RFC 6066 section 3: one name of type 0 is all that is in use.
    if value is None or len(value) < 6 or value[2] != 0:
        return None
    return text(value[5 : 5 + ((value[3] << 8) | value[4])])


def _names(value: bytes | None) -> tuple[bytes, ...]:
    names = []
    at = 2
    while value is not None and at < len(value):
        after = at + 1 + value[at]
        names.append(value[at + 1 : after])
        at = after
    return tuple(names)


def text(name: bytes) -> str:
    """A name as text: bytes that are not ASCII show as backslash escapes, never as letters."""
    return name[:255].decode("ascii", "backslashreplace")

"""Protocols that speak in the clear and say so in their first bytes.

A name is given only where the bytes themselves prove the protocol. Those that may switch to TLS
later are in `dialogs` and `preludes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_RESP = re.compile(rb"\*[1-9][0-9]{0,5}\r\n\$[0-9]{1,9}\r\n")
_MEMCACHED = re.compile(
    rb"(?:gets? [\x21-\x7e]{1,250}[ \r]|(?:set|add|replace|append|prepend)"
    rb" [\x21-\x7e]{1,250} \d+ -?\d+ \d+(?: noreply)?\r\n|(?:stats|version|flush_all)\r\n)"
)
_OPTIONS = re.compile(rb"(?:\xff[\xfb-\xfe][\x00-\x31\xff]){2}")


def stream(client: bytes, server: bytes) -> str | None:
    """The application of a TCP conversation in the clear, or None."""
    for name, least, proves in _BY_FIRST[client[0]] if client else ():
        if len(client) >= least and proves(client, server):
            return name
    return None


def datagram(data: bytes) -> str | None:
    """The application of a UDP conversation in the clear by its first bytes, or None."""
    return "dns" if _dns(data) else None


def _redis(client: bytes, server: bytes) -> bool:
    return _RESP.match(client) is not None


def _memcached(client: bytes, server: bytes) -> bool:
    return _MEMCACHED.match(client) is not None


def _amqp(client: bytes, server: bytes) -> bool:
    return client.startswith((b"AMQP\x00\x00\x09\x01", b"AMQP\x00\x01\x00\x00"))


def _mqtt(client: bytes, server: bytes) -> bool:
    # CONNECT: type, remaining length (1 to 4 bytes), then the protocol's name.
    return client[:1] == b"\x10" and any(
        client[at : at + 6] in (b"\x00\x04MQTT", b"\x00\x06MQIs") for at in range(2, 6)
    )


def _mongodb(client: bytes, server: bytes) -> bool:
    # Wire protocol header: length, request id, response to (0), opcode OP_MSG or OP_QUERY.
    return (
        len(client) >= 20
        and 20 < int.from_bytes(client[:4], "little") < 48_000_000
        and client[8:12] == b"\x00\x00\x00\x00"
        and int.from_bytes(client[12:16], "little") in (2004, 2013)
        and int.from_bytes(client[16:20], "little") < 1 << 17
    )


def _dns_stream(client: bytes, server: bytes) -> bool:
    length = int.from_bytes(client[:2], "big")
    return 16 < length <= len(client) - 2 and _dns(client[2 : 2 + length])


def _dns(data: bytes) -> bool:
    """A DNS message with one question whose name and class are well formed (RFC 1035)."""
    if len(data) < 17 or data[4:6] != b"\x00\x01" or data[2] & 0x70 or data[3] & 0x40:
        return False
    at = 12
    # No compression can occur in the first name: a label is at most 63 bytes, a name at most 255.
    while data[at] and at < 12 + 255:
        at += 1 + data[at]
        if at + 4 >= len(data) or data[at] > 63:
            return False
    kind = int.from_bytes(data[at + 1 : at + 3], "big")
    group = int.from_bytes(data[at + 3 : at + 5], "big") & 0x7FFF
    return 0 < kind < 0x8002 and group in (1, 3, 4, 255)


def _telnet(client: bytes, server: bytes) -> bool:
    # RFC 854: an end that negotiates options says WILL, WONT, DO or DONT to at least two.
    return _OPTIONS.match(client) is not None


def _kafka(client: bytes, server: bytes) -> bool:
    """A request with its client's name, and an answer to that very request."""
    width = int.from_bytes(client[12:14], "big")
    name = client[14 : 14 + width]
    return (
        client[4] == 0
        and client[5] < 100
        and client[6] == 0
        and client[7] < 30
        and 0 < width == len(name) < 250
        and name.isascii()
        and client[8:12] == server[4:8]
        and 10 + width <= int.from_bytes(client[:4], "big") < 1 << 27
        and 4 <= int.from_bytes(server[:4], "big") < 1 << 27
    )


_Proves = Callable[[bytes, bytes], bool]
_ANY = bytes(range(256))
# The name, the first bytes of one end that it takes, how many the client says at least, the proof.
_STREAMS: tuple[tuple[str, bytes, int, _Proves], ...] = (
    ("redis", b"*", 8, _redis),
    ("amqp", b"A", 8, _amqp),
    ("mqtt", b"\x10", 8, _mqtt),
    ("memcached", b"gsarpvf", 5, _memcached),
    ("telnet", b"\xff", 6, _telnet),
    ("kafka", b"\x00", 15, _kafka),
    ("mongodb", _ANY, 20, _mongodb),
    ("dns", bytes(range(32)), 19, _dns_stream),
)
_BY_FIRST = tuple(
    tuple((name, least, proves) for name, begins, least, proves in _STREAMS if first in begins)
    for first in range(256)
)

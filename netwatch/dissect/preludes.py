"""Protocols of binary messages that may switch to TLS after the first ones: PostgreSQL, MySQL,
LDAP and RDP.
"""

from __future__ import annotations

import re

from netwatch.dissect.upgrade import Talk, tls_begins
from netwatch.model.flow import Encryption

# PostgreSQL, "Message Formats": SSLRequest and GSSENCRequest, each answered by one letter.
_SSL = bytes.fromhex("0000000804d2162f")
_GSS = bytes.fromhex("0000000804d21630")
_STARTUP = b"\x00\x03\x00"

# MySQL, "Protocol::HandshakeV10": length, sequence 0, 10, version, thread, 8 of salt, 0, flags.
_GREETING = re.compile(
    rb"..\x00\x00\x0a[0-9]{1,2}\.[\x21-\x7e]{1,80}\x00.{4}.{8}\x00(?P<flags>..)", re.DOTALL
)
_CLIENT_SSL = 0x0800
# Protocol::SSLRequest: 32 bytes, of which 19 to 23 are filler.
_SSL_REQUEST = re.compile(rb"\x20\x00\x00\x01.(?P<high>.)...{4}.\x00{19}", re.DOTALL)

_STARTTLS = b"1.3.6.1.4.1.1466.20037"
_BIND, _UNBIND, _SEARCH, _EXTENDED, _EXTENDED_ANSWER = 0x60, 0x42, 0x63, 0x77, 0x78

# [MS-RDPBCGR] 2.2.1.1 and 2.2.1.2: TPKT, X.224 connect request and confirm, negotiation.
_RDP_REQUEST = re.compile(rb"\x03\x00\x00[\x0b-\xff].\xe0\x00\x00..\x00", re.DOTALL)
_RDP_CONFIRM = re.compile(rb"\x03\x00\x00[\x0b-\xff].\xd0", re.DOTALL)
_RDP_TLS = (1, 2, 8)


def postgresql(client: bytes, server: bytes) -> Talk | None:
    """PostgreSQL: TLS if the answer to the request is the letter S."""
    at = asked = 0
    while client[at : at + 8] in (_SSL, _GSS) and asked < 2:
        answer = server[asked : asked + 1]
        ssl = client[at : at + 8] == _SSL
        at, asked = at + 8, asked + 1
        if ssl and answer == b"S":
            return Talk("postgresql", at if tls_begins(client, at) else None, asked)
        if not server and tls_begins(client, at):
            return Talk("postgresql", at)
    if client[at + 4 : at + 7] == _STARTUP and b"user\x00" in client[at + 8 : at + 256]:
        return Talk("postgresql", settled=True)
    return Talk("postgresql") if asked else None


def mysql(client: bytes, server: bytes) -> Talk | None:
    """MySQL: TLS if the server offers it and the client's first message is the short one."""
    greeting = _GREETING.match(server) if server[3:5] == b"\x00\x0a" else None
    if greeting is None and client[:4] != b"\x20\x00\x00\x01":
        return None
    request = _SSL_REQUEST.match(client)
    if request is not None and not request["high"][0] & _CLIENT_SSL >> 8:
        request = None
    if greeting is None:
        upgraded = request is not None and not server and tls_begins(client, 36)
        return Talk("mysql", 36) if upgraded else None
    offered = bool(greeting["flags"][1] & _CLIENT_SSL >> 8)
    end = 4 + int.from_bytes(server[:3], "little")
    if request is None:
        return Talk("mysql", settled=len(client) > 36)
    if not offered:
        return Talk("mysql", settled=True)
    return Talk("mysql", 36 if tls_begins(client, 36) else None, end)


def ldap(client: bytes, server: bytes) -> Talk | None:
    """LDAP (RFC 4511): TLS if the extended request for it was answered with success."""
    at = 0
    first = True
    while at < len(client):
        found = _message(client, at)
        if found is None:
            return None if first else Talk("ldap", settled=True)
        kind, body, at = found
        if first and not _ldap_begins(kind, body):
            return None
        first = False
        if kind == _EXTENDED and _STARTTLS in body[:40]:
            asked = at if tls_begins(client, at) else None
            return Talk("ldap", asked, _granted(server))
        if kind != _SEARCH:
            return Talk("ldap", settled=True)
    return None if first else Talk("ldap")


def _granted(server: bytes) -> int | None:
    """Where TLS may begin: behind the successful answer to an extended request."""
    at = 0
    while at < len(server):
        found = _message(server, at)
        if found is None:
            return None
        kind, body, at = found
        if kind == _EXTENDED_ANSWER:
            return at if body[:3] == b"\x0a\x01\x00" else None
    return None


def _message(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """One LDAPMessage: the operation, its content, and where the message ends."""
    outer = _element(data, at, 0x30)
    number = _element(data, outer[0], 0x02) if outer else None
    if outer is None or number is None or not 0 < number[1] - number[0] < 6:
        return None
    kind = data[number[1] : number[1] + 1]
    body = _element(data, number[1], kind[0]) if kind else None
    return (kind[0], data[body[0] : body[1]], outer[1]) if body else None


def _element(data: bytes, at: int, tag: int) -> tuple[int, int] | None:
    """Where the content of an element of BER begins and ends, which must be all there."""
    if at + 2 > len(data) or data[at] != tag:
        return None
    length, begin = data[at + 1], at + 2
    if length & 0x80:
        more = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + more], "big"), begin + more
        if not 0 < more < 5:
            return None
    return (begin, begin + length) if begin + length <= len(data) else None


def _ldap_begins(kind: int, body: bytes) -> bool:
    if kind == _BIND:
        return body[:3] == b"\x02\x01\x03" and body[3:4] == b"\x04"
    if kind == _SEARCH:
        name = _element(body, 0, 0x04)
        return name is not None and body[name[1] : name[1] + 2] == b"\x0a\x01"
    return kind == _EXTENDED and body[:1] == b"\x80" and body[2:6] == b"1.3."


def rdp(client: bytes, server: bytes) -> Talk | None:
    """RDP: TLS if the server's confirmation selects it; its own encryption proves nothing."""
    if not _RDP_REQUEST.match(client):
        return None
    begin, end = client[3], server[3] if _RDP_CONFIRM.match(server) else 0
    answer = server[end - 8 : end] if end >= 19 else b""
    unknown = Encryption(status="unknown", proof="negotiation", protocol="rdp")
    if answer[:1] == b"\x02" and int.from_bytes(answer[4:8], "little") in _RDP_TLS:
        return Talk("rdp", begin if tls_begins(client, begin) else None, end, clear=unknown)
    return Talk("rdp", clear=unknown)

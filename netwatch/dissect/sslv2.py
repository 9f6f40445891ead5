"""SSLv2's hellos: a protocol that nobody should speak, and how old clients still open TLS.

Source: "The SSL Protocol" (Hickman, 1995), RFC 5246 appendix E.2. A client may say its first hello
in SSLv2's form and mean TLS; then the server's answer is TLS's, and is judged as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from netwatch.dissect import records, tls
from netwatch.dissect.hello import ClientHello
from netwatch.model.flow import Encryption

_CLIENT_HELLO, _MASTER_KEY, _SERVER_HELLO = 1, 2, 4
_SSL2 = 0x0002
# Names from the specification, for IANA has none.
_CIPHERS = {
    0x010080: "SSL_CK_RC4_128_WITH_MD5",
    0x020080: "SSL_CK_RC4_128_EXPORT40_WITH_MD5",
    0x030080: "SSL_CK_RC2_128_CBC_WITH_MD5",
    0x040080: "SSL_CK_RC2_128_CBC_EXPORT40_WITH_MD5",
    0x050080: "SSL_CK_IDEA_128_CBC_WITH_MD5",
    0x060040: "SSL_CK_DES_64_CBC_WITH_MD5",
    0x0700C0: "SSL_CK_DES_192_EDE3_CBC_WITH_MD5",
}


@dataclass(frozen=True, slots=True)
class Hello:
    """A hello in SSLv2's form: the highest version, and what it offers, three bytes each."""

    version: int
    ciphers: tuple[int, ...]
    end: int


def negotiation(client: bytes, server: bytes) -> tls.Handshake | None:
    """Judge a conversation whose client opens in SSLv2's form; None if it does not."""
    hello = client_hello(client)
    if hello is None:
        return None
    offered = ClientHello(
        hello.version,
        tuple(cipher for cipher in hello.ciphers if cipher < 1 << 16),
        (),
        None,
        (),
        (),
        b"",
        (),
        (),
    )
    if records.starts_like_tls(server) and hello.version > _SSL2:
        return tls.answered(offered, client[hello.end :], server)
    cipher = _master_key(client, hello) if _is_server_hello(server) else None
    # What follows the client's key is sealed; one more record of the server's shows that it took.
    taken = cipher is not None and len(server) > 2 + _length(server) + 2
    said = Encryption(
        status="encrypted" if taken else "unknown",
        proof="handshake" if taken else "negotiation",
        protocol="tls",
        version="SSLv2" if _is_server_hello(server) else None,
        cipher=_CIPHERS[cipher] if cipher is not None else None,
    )
    return tls.Handshake(offered, None, said, taken)


def client_hello(data: bytes) -> Hello | None:
    """Read the hello; None if its lengths do not add up."""
    if len(data) < 11 or data[0] < 0x80 or data[2] != _CLIENT_HELLO:
        return None
    version = int.from_bytes(data[3:5], "big")
    ciphers, session, challenge = (int.from_bytes(data[at : at + 2], "big") for at in (5, 7, 9))
    length = _length(data)
    sound = length == 9 + ciphers + session + challenge and 16 <= challenge <= 32
    known = version == _SSL2 or 0x0300 <= version <= 0x0303
    if not sound or not known or ciphers % 3 or not ciphers or session not in (0, 16):
        return None
    if len(data) < 2 + length:
        return None
    offers = range(11, 11 + ciphers, 3)
    return Hello(
        version, tuple(int.from_bytes(data[at : at + 3], "big") for at in offers), 2 + length
    )


def _length(data: bytes) -> int:
    return (data[0] & 0x7F) << 8 | data[1]


def _is_server_hello(server: bytes) -> bool:
    """Type, whether a session is resumed, type of certificate (X.509), version 2."""
    return (
        len(server) >= 13
        and server[0] >= 0x80
        and server[2] == _SERVER_HELLO
        and server[5:7] == b"\x00\x02"
    )


def _master_key(client: bytes, hello: Hello) -> int | None:
    """The cipher that the client chose and keyed, if it had offered it."""
    at = hello.end
    kind = client[at + 2 : at + 3]
    cipher = int.from_bytes(client[at + 3 : at + 6], "big")
    whole = len(client) > at + 6 and client[at] >= 0x80 and kind == bytes([_MASTER_KEY])
    return cipher if whole and cipher in hello.ciphers and cipher in _CIPHERS else None

"""What the two directions of a TLS handshake prove together, whatever carries it.

"Encrypted" is said only if a server's choice was seen (or a client acted on one), both ends did
not give up afterwards, something sealed followed, and the chosen suite does encrypt. The records
of TLS and DTLS and the packets of QUIC are framings of the same handshake: each is read into a
`Direction`, and judged here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from netwatch.dissect import records
from netwatch.dissect.certificate import certificate
from netwatch.dissect.ciphers import CIPHERS, CLEAR, GROUPS
from netwatch.dissect.hello import (
    EARLY_DATA,
    ECH,
    ClientHello,
    Malformed,
    ServerHello,
    client_hello,
    server_hello,
    text,
)
from netwatch.dissect.ja3 import ja3, ja3s
from netwatch.dissect.ja4 import ja4
from netwatch.dissect.records import Direction
from netwatch.model.flow import Certificate, Encryption

_TLS13, _DTLS13 = "TLSv1.3", "DTLSv1.3"
_VERSIONS = {
    0x0300: "SSLv3",
    0x0301: "TLSv1.0",
    0x0302: "TLSv1.1",
    0x0303: "TLSv1.2",
    0x0304: _TLS13,
    # What OpenSSL spoke before RFC 4347 was final.
    0x0100: "DTLSv1.0",
    0xFEFF: "DTLSv1.0",
    0xFEFD: "DTLSv1.2",
    0xFEFC: _DTLS13,
}
_NEWEST = (0x0304, 0xFEFC)
# JA4's first letter.
_TRANSPORTS = {"tls": "t", "dtls": "d", "quic": "q"}
_NAMED_CURVE = 3


@dataclass(frozen=True, slots=True)
class Handshake:
    """What was understood. `client` and `server` are None where that end's hello was not seen."""

    client: ClientHello | None
    server: ServerHello | None
    encryption: Encryption
    finished: bool


def negotiation(said_client: bytes, said_server: bytes) -> Handshake | None:
    """Judge the first bytes of both directions; None if neither holds records of TLS."""
    client, server = _direction(said_client), _direction(said_server)
    if client is None and server is None:
        return None
    return judge(client or Direction(), server or Direction())


def judge(
    client: Direction, server: Direction, *, protocol: str = "tls", version: str | None = None
) -> Handshake | None:
    """Judge what both ends said; None if it can not be a handshake at all.

    `protocol` is tls, dtls or quic; `version` overrides the one that the hellos agree on.
    """
    offered = _client_hello(client)
    chosen = _server_hello(server)
    if offered is None and chosen is None:
        return _middle(client, server, protocol, version)
    return _judged(offered, chosen, client, server, protocol, version)


def answered(offered: ClientHello, said_client: bytes, said_server: bytes) -> Handshake:
    """Judge an answer in TLS to a hello that came in another form; it has no fingerprint."""
    client, server = _direction(said_client) or Direction(), records.direction(said_server)
    found = _judged(offered, _server_hello(server), client, server, "tls", None)
    return replace(found, encryption=replace(found.encryption, ja3=None, ja4=None))


def _judged(
    offered: ClientHello | None,
    chosen: ServerHello | None,
    client: Direction,
    server: Direction,
    protocol: str,
    version: str | None,
) -> Handshake:
    if chosen is None or chosen.retry:
        status, proof = _status_one_way(offered, client, server)
    else:
        status, proof = _status(offered, chosen, client, server)
    shown = _certificate(server)
    encryption = _encryption(offered, chosen, client, server, shown, status=status, proof=proof)
    if protocol != "tls":
        encryption = _carried(encryption, offered, protocol, version)
    failed = client.failed or server.failed or client.broken or server.broken
    return Handshake(
        offered, chosen, encryption, failed or _settled(offered, chosen, client, server, shown)
    )


def _direction(said: bytes) -> Direction | None:
    return records.direction(said) if records.starts_like_tls(said) else None


def _carried(
    encryption: Encryption, offered: ClientHello | None, protocol: str, version: str | None
) -> Encryption:
    """The same handshake, carried by something else."""
    return replace(
        encryption,
        protocol=protocol,
        version=version or encryption.version,
        ja4=ja4(offered, transport=_TRANSPORTS[protocol]) if offered else None,
    )


def _client_hello(client: Direction) -> ClientHello | None:
    body = client.message(records.CLIENT_HELLO)
    try:
        return client_hello(body) if body is not None else None
    except Malformed:
        return None


def _server_hello(server: Direction) -> ServerHello | None:
    """The last ServerHello: the one that answers a HelloRetryRequest counts."""
    found = None
    for kind, body, whole in server.messages:
        if kind == records.SERVER_HELLO and whole:
            try:
                found = server_hello(body)
            except Malformed:
                return found
    return found


def _version(chosen: ServerHello) -> str | None:
    number = chosen.supported_version or chosen.version
    # Drafts of TLS 1.3 (RFC 8446 was 0x7f1c before it was final) and Facebook's numbers for them.
    return _TLS13 if number >> 8 in (0x7F, 0xFB) else _VERSIONS.get(number)


def _status(
    offered: ClientHello | None, chosen: ServerHello, client: Direction, server: Direction
) -> tuple[str, str]:
    """Status and proof where the server's choice was seen."""
    honest = chosen.cipher in CIPHERS and (offered is None or chosen.cipher in offered.ciphers)
    sound = _version(chosen) is not None and not (client.broken or server.broken)
    gave_up = client.failed or server.failed
    if gave_up or not honest or not sound or not (client.protected() or server.protected()):
        return "unknown", "negotiation"
    proof = "negotiation" if offered is None else "handshake"
    return ("plaintext" if chosen.cipher in CLEAR else "encrypted"), proof


def _status_one_way(
    offered: ClientHello | None, client: Direction, server: Direction
) -> tuple[str, str]:
    """Status and proof where only the client was seen: a hello alone is an offer, no more.

    A client that switches to encryption has a server's answer; early data is sent without one.
    """
    answered = client.protected() and (
        client.message(records.CLIENT_KEY_EXCHANGE) is not None
        or (offered is not None and EARLY_DATA not in offered.extensions)
    )
    sound = not (client.broken or client.failed or server.broken or server.failed)
    if offered is None or not answered or not sound or CLEAR.intersection(offered.ciphers):
        return "unknown", "negotiation"
    return "encrypted", "negotiation"


def _version_one_way(offered: ClientHello | None, client: Direction) -> str | None:
    """What a client keeps to, which acts on an answer that was not seen.

    Up to 1.2 the headers of its records say it (RFC 5246 section 6.2.1); only there a client sends
    a key in the clear, or seals its last message as one of the handshake.
    """
    if offered is None:
        return None
    if client.message(records.CLIENT_KEY_EXCHANGE) is not None or client.closing:
        return _VERSIONS.get(client.header)
    if EARLY_DATA in offered.extensions or not client.protected():
        return None
    return next((_VERSIONS[new] for new in _NEWEST if new in offered.versions), None)


def _encryption(
    offered: ClientHello | None,
    chosen: ServerHello | None,
    client: Direction,
    server: Direction,
    shown: Certificate | None,
    *,
    status: str,
    proof: str,
) -> Encryption:
    # A HelloRetryRequest binds the answer to come to what it says (RFC 8446 section 4.1.4).
    version = _version(chosen) if chosen else None
    if chosen is None and status == "encrypted":
        version = _version_one_way(offered, client)
    return Encryption(
        status=status,
        proof=proof,
        protocol="tls",
        version=version,
        cipher=CIPHERS.get(chosen.cipher) if chosen else None,
        group=_group(chosen, server) if chosen else None,
        server_name=offered.server_name if offered else None,
        alpn_offered=tuple(text(name) for name in offered.alpn) if offered else (),
        alpn=text(chosen.alpn) if chosen and chosen.alpn is not None else None,
        ja3=ja3(offered) if offered else None,
        ja3s=ja3s(chosen) if chosen else None,
        ja4=ja4(offered) if offered else None,
        certificate=shown,
        ech=not ECH.isdisjoint(offered.extensions) if offered else None,
    )


def _group(chosen: ServerHello, server: Direction) -> str | None:
    if chosen.group is not None:
        return GROUPS.get(chosen.group)
    body = server.message(records.SERVER_KEY_EXCHANGE)
    elliptic = "_ECDH" in CIPHERS.get(chosen.cipher, "")
    if body is None or len(body) < 3 or not elliptic or body[0] != _NAMED_CURVE:
        return None
    return GROUPS.get((body[1] << 8) | body[2])


def _certificate(server: Direction) -> Certificate | None:
    """The first of the chain, also if the rest of a long chain was not seen (RFC 5246 7.4.2)."""
    for kind, body, _ in server.messages:
        if kind == records.CERTIFICATE and len(body) > 6:
            length = int.from_bytes(body[3:6], "big")
            if 0 < length <= len(body) - 6:
                return certificate(body[6 : 6 + length])
    return None


def _settled(
    offered: ClientHello | None,
    chosen: ServerHello | None,
    client: Direction,
    server: Direction,
    shown: Certificate | None,
) -> bool:
    """Whether more bytes can not change the answer."""
    if offered is None or chosen is None or chosen.retry:
        return False
    if _version(chosen) in (_TLS13, _DTLS13) or server.protected():
        return client.protected() or server.protected()
    done = server.message(records.SERVER_HELLO_DONE) is not None
    return client.protected() and (done or shown is not None)


def _middle(
    client: Direction, server: Direction, protocol: str, version: str | None
) -> Handshake | None:
    """Records without a hello: a capture that began too late. Their type is only a claim."""
    whole = client.records + server.records
    if whole < 2 or client.broken or server.broken:
        return None
    claim = Encryption(status="unknown", proof="content", protocol=protocol, version=version)
    return Handshake(None, None, claim, False)

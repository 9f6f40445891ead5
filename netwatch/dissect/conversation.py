"""The one question that capture asks: what do the first bytes of a conversation prove?

Any bytes give an answer, in bounded time and memory; ports are not even an argument, because a
port number proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netwatch.dissect import (
    dialogs,
    dtls,
    gquic,
    http,
    plaintext,
    preludes,
    quic,
    ssh,
    sslv2,
    tls,
    upgrade,
    vpn,
)
from netwatch.dissect.answer import LIMIT, Classified
from netwatch.dissect.quic_keys import VERSIONS
from netwatch.model.flow import Encryption

__all__ = ["LIMIT", "Classified", "classify"]

_ENOUGH = 1024

_PLAINTEXT = Encryption(status="plaintext", proof="content")


def classify(
    client: bytes,
    server: bytes,
    *,
    protocol: str,
    complete: bool = False,
    client_sizes: Sequence[int] = (),
    server_sizes: Sequence[int] = (),
) -> Classified:
    """Judge the first in-order payload of both directions, at most LIMIT bytes of each.

    `protocol` is the transport: tcp, udp or another. `complete` says that no more will come. A
    capture that began late may hand the two directions over the wrong way round; where the bytes
    show it, they are judged the right way round and `initiator` is "server". The sizes are those
    of the datagrams that the bytes came in, in order; without them, borders are found only where
    the protocol itself says how long its packets are.
    """
    client, server = client[:LIMIT], server[:LIMIT]
    if protocol == "tcp":
        answer = _tcp(client, server)
    else:
        answer = _datagrams(_cut(client, client_sizes), _cut(server, server_sizes))
    if answer is None:
        heard = len(client) >= _ENOUGH and len(server) >= _ENOUGH
        return Classified(finished=complete or heard or LIMIT in (len(client), len(server)))
    full = len(client) == LIMIT and len(server) == LIMIT
    if answer.finished or not (complete or full):
        return answer
    return Classified(answer.encryption, answer.application, True, answer.initiator)


def _tcp(client: bytes, server: bytes) -> Classified | None:
    if not client and not server:
        return None
    return _tls(client, server) or _ssh(client, server) or _clear(client, server)


def _datagrams(client: list[bytes], server: list[bytes]) -> Classified | None:
    heads = (client[:1] + server[:1]) if server else client[:1]
    for name, judge, understand in _candidates(heads):
        if judge is not None:
            found = _either_way(judge, client, server)
            if found is not None:
                return _answer(found[0], name, found[1])
        elif understand is not None:
            tunnel = understand(client, server)
            if tunnel is not None:
                return Classified(tunnel.encryption, name, tunnel.finished, tunnel.initiator)
    spoken = plaintext.datagram(heads[0]) if heads else None
    return Classified(_PLAINTEXT, spoken, finished=True) if spoken else None


def _candidates(heads: Sequence[bytes]) -> Sequence[_Datagrams]:
    """What the first datagrams may begin, by what costs next to nothing to look at."""
    found: tuple[_Datagrams, ...] = ()
    for head in heads:
        first = head[0]
        if first < 0x80:
            found += _BY_FIRST[first]
        elif head[1:5] in VERSIONS or head[1:3] == b"Q0" or quic.reserved(head):
            found += _LONG
        if len(head) > 27 and (
            head[17] in _IKE_VERSIONS or (first == 0 and head[21] in _IKE_VERSIONS)
        ):
            found += (_IKE,)
    return found if len(found) < 2 else tuple(dict.fromkeys(found))


def _cut(said: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The datagrams: those that `sizes` tells apart, and the rest as one."""
    if not sizes:
        return [said] if said else []
    found, at = [], 0
    for size in sizes:
        if size > 0 and at < len(said):
            found.append(said[at : at + size])
            at += size
    if at < len(said):
        found.append(said[at:])
    return found


_Understand = Callable[[Sequence[bytes], Sequence[bytes]], vpn.Tunnel | None]
_Judge = Callable[[Sequence[bytes], Sequence[bytes]], tls.Handshake | None]


def _either_way(
    judge: _Judge, client: Sequence[bytes], server: Sequence[bytes]
) -> tuple[tls.Handshake, str | None] | None:
    """The answer, and which of the two is the client."""
    found = judge(client, server)
    if found is not None and (found.client or found.server or found.encryption.server_name):
        return found, "client"
    turned = judge(server, client)
    if turned is not None and (turned.client or turned.server or turned.encryption.server_name):
        return turned, "server"
    return None if found is None else (found, None)


def _answer(found: tls.Handshake, name: str, initiator: str | None) -> Classified:
    return Classified(found.encryption, name, found.finished, initiator)


def _google(client: Sequence[bytes], server: Sequence[bytes]) -> tls.Handshake | None:
    return gquic.negotiation(client)


# A protocol of datagrams: its name, and what judges it.
_Datagrams = tuple[str, _Judge | None, _Understand | None]
_QUIC: _Datagrams = ("quic", quic.negotiation, None)
_IKE: _Datagrams = ("ike", None, vpn.ike)
_IKE_VERSIONS = b"\x10\x20"
_LONG: tuple[_Datagrams, ...] = (_QUIC, ("quic", _google, None))
_PROTOCOLS: tuple[tuple[bytes, _Datagrams], ...] = (
    # STUN may come before DTLS on the same ports.
    (bytes((0, 1, 20, 21, 22, 23, 25)), ("dtls", dtls.negotiation, None)),
    (bytes(gquic.FIRSTS), ("quic", _google, None)),
    (bytes((1, 2, 3, 4)), ("wireguard", None, vpn.wireguard)),
    (bytes((0x38, 0x40)), ("openvpn", None, vpn.openvpn)),
)
_BY_FIRST = tuple(
    tuple(each for begins, each in _PROTOCOLS if first in begins) for first in range(256)
)


def _tls(client: bytes, server: bytes) -> Classified | None:
    if client[2:3] == b"\x01" and client[0] >= 0x80:
        # A hello in SSLv2's form, which TLS may answer.
        return _ssl2(client, server)
    found = tls.negotiation(client, server)
    if found is None:
        return None
    if found.client is None and found.server is None:
        turned = tls.negotiation(server, client)
        if turned is not None and (turned.client or turned.server):
            return _answer(turned, "tls", "server")
        return _answer(found, "tls", None)
    return _answer(found, "tls", "client")


def _ssl2(client: bytes, server: bytes) -> Classified | None:
    found = sslv2.negotiation(client, server)
    return _answer(found, "tls", "client") if found is not None else None


def _ssh(client: bytes, server: bytes) -> Classified | None:
    found = ssh.exchange(client, server)
    if found is None:
        return None
    return Classified(found.encryption, "ssh", found.finished, found.initiator)


def _clear(client: bytes, server: bytes) -> Classified | None:
    name = http.application(client, server)
    if name is None:
        found = _talk(client, server) or _talk(server, client, initiator="server")
        if found is not None:
            return found
        name = plaintext.stream(client, server) or plaintext.stream(server, client)
    return Classified(_PLAINTEXT, name, finished=True) if name else None


# Protocols that begin in the clear and may switch to TLS, by the first byte of the client, or of
# the server if that is all there is.
_TALKS = (
    (bytes(range(0x21, 0x7F)), dialogs.talk),
    (b"<", dialogs.xmpp),
    (b"\x00", preludes.postgresql),
    (bytes(range(256)), preludes.mysql),
    (b"\x30", preludes.ldap),
    (b"\x03", preludes.rdp),
)
_TALKS_BY_FIRST = tuple(
    tuple(understand for begins, understand in _TALKS if first in begins) for first in range(256)
)


def _talk(client: bytes, server: bytes, *, initiator: str = "client") -> Classified | None:
    for understand in _TALKS_BY_FIRST[client[0] if client else server[0]]:
        talk = understand(client, server)
        if talk is not None:
            found = upgrade.judge(talk, client, server)
            # Only a ClientHello proves who opened the connection.
            opened = initiator if found.handshake else None
            return Classified(found.encryption, talk.application, found.finished, opened)
    return None

"""The one question that capture asks: what do the first bytes of a conversation prove?

Any bytes give an answer, in bounded time and memory; ports are not even an argument, because a
port number proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from netwatch.dissect import http, plaintext, ssh, tls
from netwatch.model.flow import Encryption

# What is kept of each direction. A conversation that said this much and was not recognised will
# not be: every signature lies at the start.
LIMIT = 8192
_ENOUGH = 1024

_UNKNOWN = Encryption()
_PLAINTEXT = Encryption(status="plaintext", proof="content")


@dataclass(frozen=True, slots=True)
class Classified:
    """The answer. `finished`: more bytes can not change it. `initiator`: "client" or "server" if
    the bytes prove which of the two given sides opened the conversation, else None.
    """

    encryption: Encryption = _UNKNOWN
    application: str | None = None
    finished: bool = False
    initiator: str | None = None


def classify(client: bytes, server: bytes, *, protocol: str, complete: bool = False) -> Classified:
    """Judge the first in-order payload of both directions, at most LIMIT bytes of each.

    `protocol` is the transport: tcp, udp or another. `complete` says that no more will come. A
    capture that began late may hand the two directions over the wrong way round; where the bytes
    show it, they are judged the right way round and `initiator` is "server".
    """
    client, server = client[:LIMIT], server[:LIMIT]
    answer = _tcp(client, server) if protocol == "tcp" else _datagrams(client, server)
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


def _datagrams(client: bytes, server: bytes) -> Classified | None:
    name = plaintext.datagram(client or server)
    return Classified(_PLAINTEXT, name, finished=True) if name else None


def _tls(client: bytes, server: bytes) -> Classified | None:
    found = tls.negotiation(client, server)
    if found is None:
        return None
    if found.client is None and found.server is None:
        turned = tls.negotiation(server, client)
        if turned is not None and (turned.client or turned.server):
            return Classified(turned.encryption, "tls", turned.finished, "server")
        return Classified(found.encryption, "tls", found.finished)
    return Classified(found.encryption, "tls", found.finished, "client")


def _ssh(client: bytes, server: bytes) -> Classified | None:
    found = ssh.exchange(client, server)
    return Classified(found.encryption, "ssh", found.finished) if found else None


def _clear(client: bytes, server: bytes) -> Classified | None:
    name = http.application(client, server) or plaintext.stream(client, server)
    return Classified(_PLAINTEXT, name, finished=True) if name else None

"""Conversations that begin in the clear and switch to TLS when both ends agree (STARTTLS).

What was said before stays said in the clear: such a conversation is plaintext until the request
was accepted and the server's hello came, and then whatever the handshake proves. What was sent
in the clear for good (a password, mail) settles it: no later switch makes that encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from netwatch.dissect import sslv2, tls
from netwatch.model.flow import Encryption

PLAINTEXT = Encryption(status="plaintext", proof="content")


@dataclass(frozen=True, slots=True)
class Talk:
    """What was understood of the clear part. `client` and `server` are where it ends and TLS
    begins; None where it does not, or where that end did not ask, or not accept. `settled`: no
    switch can come that counts.
    """

    application: str
    client: int | None = None
    server: int | None = None
    settled: bool = False
    clear: Encryption = PLAINTEXT


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer for a conversation that began in the clear. `handshake`: TLS was looked at."""

    encryption: Encryption
    finished: bool
    handshake: bool = False


def judge(talk: Talk, client: bytes, server: bytes) -> Judged:
    """Judge a conversation, the clear part of which was understood."""
    if talk.settled:
        return Judged(talk.clear, finished=True)
    asked, accepted = talk.client is not None, talk.server is not None
    # An end that was not captured neither asks nor refuses.
    if not (asked or not client) or not (accepted or not server):
        return Judged(talk.clear, finished=False)
    begun = client[talk.client or 0 :], server[talk.server or 0 :]
    found = tls.negotiation(*begun) if begun[0][:1] < b"\x80" else sslv2.negotiation(*begun)
    if found is None or (found.client is None and found.server is None):
        return Judged(talk.clear, finished=False)
    if found.server is None and (server or found.encryption.status == "unknown"):
        return Judged(
            replace(found.encryption, status="plaintext", proof="content"), found.finished
        )
    return Judged(found.encryption, found.finished, handshake=True)


def tls_begins(said: bytes, at: int) -> bool:
    """Whether a record of TLS, or an SSLv2 hello that offers TLS, can begin here."""
    kind = said[at : at + 1]
    if kind in (b"\x16", b"\x15"):
        return said[at + 1 : at + 2] == b"\x03" and said[at + 2 : at + 3] <= b"\x04"
    return kind >= b"\x80" and said[at + 2 : at + 4] in (b"\x01\x03", b"\x01\x00")

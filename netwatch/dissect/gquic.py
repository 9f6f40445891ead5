"""Google's QUIC before TLS: it says its version and the server's name; the rest proves nothing.

Up to Q046 its first message is in the clear; Q050 seals it as QUIC does. What the server answers
proves nothing to a third party, so such a conversation is never called encrypted. Source: "QUIC
Crypto" (Google, 2016).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from netwatch.dissect.hello import text
from netwatch.dissect.tls import Handshake
from netwatch.model.flow import Encryption

HELLO = b"CHLO"
_SERVER_NAME = b"SNI\x00"
# The message comes right behind the headers of packet and stream.
_WITHIN = 64
# Q044 to Q046 have the long header of QUIC's drafts; before, flags (version and an id of 8 bytes
# are there) and the id stand before the version.
_PACKET = re.compile(
    rb"(?:[\xc0-\xff](?=Q04[4-6])|[\x09\x0d\x19\x1d\x29\x2d\x39\x3d].{8})(Q0\d\d)", re.DOTALL
)
FIRSTS = frozenset(b"\x09\x0d\x19\x1d\x29\x2d\x39\x3d") | frozenset(range(0xC0, 0x100))


def negotiation(client: Sequence[bytes]) -> Handshake | None:
    """Judge the client's first datagrams; None if the first is none of these versions."""
    opened = _PACKET.match(client[0]) if client else None
    if opened is None:
        return None
    for data in client:
        at = data.find(HELLO, 0, _WITHIN)
        if at >= 0:
            return claim(data[at:], f"gQUIC-{opened[1].decode()}")
    return Handshake(None, None, _unproven(f"gQUIC-{opened[1].decode()}"), finished=False)


def claim(message: bytes, version: str) -> Handshake:
    """What a CHLO says: tags in order, each with the end of its value."""
    name = None
    count = int.from_bytes(message[4:6], "little")
    values, begin = 8 + 8 * count, 0
    for at in range(8, min(values, len(message)), 8):
        end = int.from_bytes(message[at + 4 : at + 8], "little")
        if message[at : at + 4] == _SERVER_NAME and end > begin:
            name = text(message[values + begin : values + end]) or None
        begin = end
    return Handshake(None, None, _unproven(version, name), finished=True)


def _unproven(version: str, name: str | None = None) -> Encryption:
    return Encryption(
        status="unknown", proof="negotiation", protocol="quic", version=version, server_name=name
    )

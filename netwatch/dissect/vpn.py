"""Tunnels by their own handshakes: WireGuard, IKE and OpenVPN.

WireGuard and IKE are called encrypted only if the ends' identifiers show that an answer belongs to
its request and what follows to both; traffic alone is a claim. OpenVPN hides what it agreed on, so
it is named and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netwatch.model.flow import Encryption

# WireGuard, "Protocol": the types of message and their exact lengths; data is padded to 16.
_INITIATION, _RESPONSE, _COOKIE, _DATA = 1, 2, 3, 4
_LENGTHS = {_INITIATION: 148, _RESPONSE: 92, _COOKIE: 64}

_SA_INIT, _SA, _NULL = 34, 33, 11
_SEALED = (46, 53)
_EXCHANGES = (_SA_INIT, 35, 36, 37)
_EXCHANGES_1 = (2, 4, 5, 6, 32)
# IANA, "Internet Key Exchange Version 2 (IKEv2) Parameters", transform type 1.
_CIPHERS = {
    3: "ENCR_3DES",
    _NULL: "ENCR_NULL",
    12: "ENCR_AES_CBC",
    13: "ENCR_AES_CTR",
    18: "ENCR_AES_GCM_8",
    19: "ENCR_AES_GCM_12",
    20: "ENCR_AES_GCM_16",
    23: "ENCR_CAMELLIA_CBC",
    28: "ENCR_CHACHA20_POLY1305",
}


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What was understood of a tunnel. `initiator`: who began, if that was seen."""

    application: str
    encryption: Encryption
    finished: bool
    initiator: str | None = None


def wireguard(client: Sequence[bytes], server: Sequence[bytes]) -> Tunnel | None:
    """WireGuard: initiation, the response to it, data for the session that it opened."""
    ends = list(_wireguard(client)), list(_wireguard(server))
    if not any(ends):
        return None
    claim = Encryption(status="unknown", proof="content", protocol="wireguard")
    for initiator, (mine, theirs) in (("client", ends), ("server", ends[::-1])):
        asked = {data[4:8] for kind, data in mine if kind == _INITIATION}
        answered = {
            data[4:8] for kind, data in theirs if kind == _RESPONSE and data[8:12] in asked
        }
        used = {data[4:8] for kind, data in mine if kind == _DATA}
        used_back = {data[4:8] for kind, data in theirs if kind == _DATA}
        if answered and (answered & used or asked & used_back):
            proven = Encryption(status="encrypted", proof="handshake", protocol="wireguard")
            return Tunnel("wireguard", proven, finished=True, initiator=initiator)
        if asked:
            begun = Encryption(status="unknown", proof="negotiation", protocol="wireguard")
            return Tunnel("wireguard", begun, finished=False, initiator=initiator)
    if any(kind != _DATA for end in ends for kind, _ in end):
        return Tunnel("wireguard", claim, finished=False)
    # Data only: the same receiver twice from one end, and a counter that grows.
    for end in ends:
        for (_, first), (_, second) in zip(end, end[1:], strict=False):
            before, after = (int.from_bytes(data[8:16], "little") for data in (first, second))
            if first[4:8] == second[4:8] and 0 < after - before < 1024:
                return Tunnel("wireguard", claim, finished=False)
    return None


def _wireguard(datagrams: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    for data in datagrams:
        at = 0
        while at + 32 <= len(data):
            kind = data[at]
            length = _LENGTHS.get(kind, len(data) - at)
            if not 0 < kind < 5 or any(data[at + 1 : at + 4]) or at + length > len(data):
                return
            # Without the datagrams' sizes, the end of data is not known, nor whether it is padded.
            yield kind, data[at : at + length]
            at += length


def ike(client: Sequence[bytes], server: Sequence[bytes]) -> Tunnel | None:
    """IKE (RFC 7296; RFC 2408 for version 1): what the first exchange agreed on, and its use."""
    ends = list(_ike(client)), list(_ike(server))
    seen = [message for end in ends for message in end]
    if not seen:
        return None
    version = f"IKEv{seen[0].version}"
    cipher, opened = None, set()
    for message in seen:
        if message.exchange == _SA_INIT and any(message.ids[8:]):
            number = _chosen(message)
            if number is not None:
                cipher = _CIPHERS.get(number)
                opened.add(message.ids)
    used = any(m.ids in opened and m.exchange != _SA_INIT and m.first in _SEALED for m in seen)
    status = "unknown"
    if used and cipher is not None:
        status = "plaintext" if cipher == _CIPHERS[_NULL] else "encrypted"
    both = status != "unknown" and all(ends)
    proof = "handshake" if both else "negotiation"
    said = Encryption(status=status, proof=proof, protocol="ike", version=version, cipher=cipher)
    return Tunnel("ike", said, finished=both)


@dataclass(frozen=True, slots=True)
class _Message:
    """The header of an IKE message: both ends' identifiers, its first payload, and the rest."""

    ids: bytes
    first: int
    version: int
    exchange: int
    body: bytes


def _ike(datagrams: Sequence[bytes]) -> Iterator[_Message]:
    for data in datagrams:
        at = 0
        while at < len(data):
            # RFC 3948: four zeros tell IKE from ESP on the port that they share.
            at += 4 if data[at : at + 4] == bytes(4) else 0
            length = int.from_bytes(data[at + 24 : at + 28], "big")
            if not 28 <= length <= len(data) - at or not any(data[at : at + 8]):
                return
            version, exchange = data[at + 17] >> 4, data[at + 18]
            known = _EXCHANGES if version == 2 else _EXCHANGES_1
            if data[at + 17] not in (0x10, 0x20) or exchange not in known:
                return
            body = data[at + 28 : at + length]
            yield _Message(data[at : at + 16], data[at + 16], version, exchange, body)
            at += length


def _chosen(message: _Message) -> int | None:
    """The encryption transform in an answer's SA payload (RFC 7296 section 3.3)."""
    kind, at = message.first, 0
    body = message.body
    while at + 4 <= len(body):
        length = int.from_bytes(body[at + 2 : at + 4], "big")
        if kind == _SA:
            return _transform(body[at + 4 : at + length])
        if length < 4:
            return None
        kind, at = body[at], at + length
    return None


def _transform(proposal: bytes) -> int | None:
    at = 8 + (proposal[6] if len(proposal) > 7 else 0)
    while at + 8 <= len(proposal):
        if proposal[at + 4] == 1:
            return int.from_bytes(proposal[at + 6 : at + 8], "big")
        length = int.from_bytes(proposal[at + 2 : at + 4], "big")
        at += max(length, 8)
    return None


# OpenVPN, "Reliability layer": the first message of a client (type 7, version 2), and the
# server's (type 8), which acknowledges the client's session by its number.
_HARD_RESET = re.compile(rb"\x38(.{8})\x00\x00\x00\x00\x00", re.DOTALL)


def openvpn(client: Sequence[bytes], server: Sequence[bytes]) -> Tunnel | None:
    """OpenVPN without a static key; with one, its first messages look like anything."""
    for initiator, asks, answers in (("client", client, server), ("server", server, client)):
        opened = _HARD_RESET.match(asks[0]) if asks else None
        answer = answers[0] if opened and answers else b""
        if opened and answer[:1] == b"\x40" and answer[14:22] == opened[1]:
            said = Encryption(status="unknown", proof="negotiation", protocol="openvpn")
            return Tunnel("openvpn", said, finished=True, initiator=initiator)
    return None

"""SSH: the banner, what both ends offer, and the switch to encryption (RFC 4253).

HASSH and its server's counterpart are MD5 fingerprints of what each end offers for the way that it
sends (Salesforce, BSD 3-clause); MD5 identifies here, it protects nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import md5

from netwatch.model.flow import Encryption

_KEXINIT, _NEWKEYS = 20, 21
_KEX, _CIPHER_OUT, _CIPHER_BACK = 0, 2, 3
# The lists behind each fingerprint: key exchange, cipher, MAC, compression.
_CLIENT_LISTS, _SERVER_LISTS = (0, 2, 4, 6), (0, 3, 5, 7)
# RFC 4253 section 8, RFC 4419 section 5: what only one of the ends may say.
_FROM_CLIENT, _FROM_SERVER = (30, 32, 34), (31, 33)
# RFC 4253 section 4.2: a banner is at most 255 bytes; a server may send other lines before it.
_BANNER_WITHIN = 1024
_LONGEST_PACKET = 35000


@dataclass(frozen=True, slots=True)
class _End:
    version: str
    offers: tuple[tuple[str, ...], ...]
    sealed: bool
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was understood of an SSH connection. `initiator`: which of the two given sides is the
    client, if a message told.
    """

    encryption: Encryption
    finished: bool
    initiator: str | None = None


def exchange(client: bytes, server: bytes) -> Exchange | None:
    """Judge the first bytes of both directions; None if neither opens with an SSH banner."""
    ends = _end(client), _end(server)
    initiator = _initiator(*ends)
    if initiator == "server":
        ends = ends[::-1]
    seen = [end for end in ends if end is not None]
    if not seen:
        return None
    sealed = any(end.sealed for end in seen)
    cipher, group = None, None
    if all(end is not None and end.offers for end in ends):
        cipher = _agreed(seen[0].offers, seen[1].offers, _CIPHER_OUT)
        back = _agreed(seen[0].offers, seen[1].offers, _CIPHER_BACK)
        group = _agreed(seen[0].offers, seen[1].offers, _KEX)
        clear = "none" in (cipher, back)
        agreed = cipher is not None and back is not None
        status, proof = _judge(sealed=sealed, agreed=agreed, clear=clear), "handshake"
    else:
        clear = any("none" in offer for end in seen for offer in end.offers[_CIPHER_OUT:4])
        status, proof = _judge(sealed=sealed, agreed=not clear, clear=False), "negotiation"
    encryption = Encryption(
        status=status,
        proof=proof if status != "unknown" else "negotiation",
        protocol="ssh",
        version=seen[-1].version,
        cipher=cipher,
        group=group,
        hassh=_fingerprint(ends[0], _CLIENT_LISTS),
        hassh_server=_fingerprint(ends[1], _SERVER_LISTS),
    )
    return Exchange(encryption, sealed and cipher is not None, initiator)


def _initiator(client: _End | None, server: _End | None) -> str | None:
    mine, theirs = client and client.role, server and server.role
    if "client" in (mine, theirs):
        return "client" if mine == "client" else "server"
    if "server" in (mine, theirs):
        return "client" if theirs == "server" else "server"
    return None


def _fingerprint(end: _End | None, lists: tuple[int, ...]) -> str | None:
    if end is None or not end.offers:
        return None
    said = ";".join(",".join(end.offers[which]) for which in lists)
    return md5(said.encode(), usedforsecurity=False).hexdigest()


def _judge(*, sealed: bool, agreed: bool, clear: bool) -> str:
    if not sealed or not agreed:
        return "unknown"
    return "plaintext" if clear else "encrypted"


def _end(said: bytes) -> _End | None:
    if not said.startswith(b"SSH-"):
        return None
    line, newline, rest = said[:_BANNER_WITHIN].partition(b"\n")
    version = line[4:].split(b"-", 1)[0][:8].decode("ascii", "backslashreplace")
    if not newline:
        return _End(f"SSH-{version}", (), sealed=False)
    return _End(f"SSH-{version}", *_packets(said[len(line) + 1 :]))


def _packets(said: bytes) -> tuple[tuple[tuple[str, ...], ...], bool, str | None]:
    """The name lists of KEXINIT, whether NEWKEYS came (packets are in the clear until then), and
    whose these messages are.
    """
    offers: tuple[tuple[str, ...], ...] = ()
    role = None
    at = 0
    while at + 6 <= len(said):
        length = int.from_bytes(said[at : at + 4], "big")
        if not 1 < length <= _LONGEST_PACKET:
            break
        packet = said[at + 4 : at + 4 + length]
        if len(packet) < length:
            break
        if packet[1] == _KEXINIT and not offers:
            offers = _name_lists(packet)
        elif packet[1] == _NEWKEYS and offers:
            return offers, True, role
        elif packet[1] in _FROM_CLIENT or packet[1] in _FROM_SERVER:
            role = role or ("client" if packet[1] in _FROM_CLIENT else "server")
        at += 4 + length
    return offers, False, role


def _name_lists(packet: bytes) -> tuple[tuple[str, ...], ...]:
    """The ten lists of RFC 4253 section 7.1, or nothing if they do not fit."""
    lists = []
    at = 18
    for _ in range(10):
        length = int.from_bytes(packet[at : at + 4], "big")
        value = packet[at + 4 : at + 4 + length]
        if at + 4 > len(packet) or len(value) < length:
            return ()
        lists.append(tuple(value.decode("ascii", "backslashreplace").split(",")))
        at += 4 + length
    return tuple(lists)


def _agreed(
    client: tuple[tuple[str, ...], ...], server: tuple[tuple[str, ...], ...], which: int
) -> str | None:
    """RFC 4253 section 7.1: the first of the client's that the server has, too."""
    return next((name for name in client[which] if name in server[which]), None)

"""SSH: the banner, what both ends offer, and the switch to encryption (RFC 4253)."""

from __future__ import annotations

from dataclasses import dataclass

from netwatch.model.flow import Encryption

_KEXINIT, _NEWKEYS = 20, 21
_KEX, _CIPHER_OUT, _CIPHER_BACK = 0, 2, 3
# RFC 4253 section 4.2: a banner is at most 255 bytes; a server may send other lines before it.
_BANNER_WITHIN = 1024
_LONGEST_PACKET = 35000


@dataclass(frozen=True, slots=True)
class _End:
    version: str
    offers: tuple[tuple[str, ...], ...]
    sealed: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was understood of an SSH connection."""

    encryption: Encryption
    finished: bool


def exchange(client: bytes, server: bytes) -> Exchange | None:
    """Judge the first bytes of both directions; None if neither opens with an SSH banner."""
    ends = _end(client), _end(server)
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
    )
    return Exchange(encryption, sealed and cipher is not None)


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
    offers, sealed = _packets(said[len(line) + 1 :])
    return _End(f"SSH-{version}", offers, sealed)


def _packets(said: bytes) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """The name lists of KEXINIT, and whether NEWKEYS came; packets are in the clear until then."""
    offers: tuple[tuple[str, ...], ...] = ()
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
            return offers, True
        at += 4 + length
    return offers, False


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

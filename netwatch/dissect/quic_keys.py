"""The keys of QUIC's Initial packets, which anybody can derive from the packets themselves.

Source: RFC 9001 section 5 (version 1), RFC 9369 section 3.3 (version 2), the drafts before them,
and the numbers that Google and Facebook used. An Initial that opens is proven to be QUIC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

_SALT_22 = bytes.fromhex("7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a")
_SALT_23 = bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502")
_SALT_29 = bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899")
_SALT_1 = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
_SALT_2 = bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9")
_DRAFTS = (
    (range(21, 23), _SALT_22),
    (range(23, 29), _SALT_23),
    (range(29, 33), _SALT_29),
    (range(33, 35), _SALT_1),
)


@dataclass(frozen=True, slots=True)
class Version:
    """How a version of QUIC is called, and what its Initial keys are made of. `second`: it has
    the packet types and labels of version 2. `google`: the frames of Google's own drafts.
    """

    name: str
    salt: bytes
    second: bool = False
    google: bool = False


def _google(name: str, salt: str) -> Version:
    return Version(f"gQUIC-{name}", bytes.fromhex(salt), google=True)


VERSIONS: dict[bytes, Version] = {
    bytes.fromhex("00000001"): Version("QUICv1", _SALT_1),
    bytes.fromhex("6b3343cf"): Version("QUICv2", _SALT_2, second=True),
    bytes.fromhex("faceb001"): Version("QUIC-mvfst-22", _SALT_22),
    bytes.fromhex("faceb002"): Version("QUIC-mvfst-27", _SALT_23),
    bytes.fromhex("faceb00e"): Version("QUIC-mvfst-exp", _SALT_23),
    b"Q050": _google("Q050", "504574efd066fe2f9d945cfcdbd3a7f0d3b56b45"),
    b"T050": _google("T050", "7ff579e5acd072915580304c43a2367c60488310"),
    b"T051": _google("T051", "7a4edef4e7ccee5fa4506c19124fc8ccda6e033d"),
}
VERSIONS |= {
    b"\xff\x00\x00" + bytes([draft]): Version(f"QUIC-draft-{draft}", salt)
    for drafts, salt in _DRAFTS
    for draft in drafts
}


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the Initial packets of one end."""

    key: bytes
    iv: bytes
    header: bytes

    def open(self, packet: bytes, number_at: int) -> bytes | None:
        """The frames in a packet, or None if these are not its keys. Its packet number, at
        `number_at`, is hidden (RFC 9001 section 5.4).
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        sample = packet[number_at + 4 : number_at + 20]
        if len(sample) < 16:
            return None
        # One block of AES is what the RFC prescribes for the header; no message is encrypted so.
        hide = Cipher(algorithms.AES(self.header), modes.ECB())
        mask = hide.encryptor().update(sample)
        first = packet[0] ^ mask[0] & 0x0F
        width = (first & 3) + 1
        hidden = packet[number_at : number_at + width]
        number = bytes(a ^ b for a, b in zip(hidden, mask[1:], strict=False))
        shown = bytes([first]) + packet[1:number_at] + number
        nonce = int.from_bytes(self.iv, "big") ^ int.from_bytes(number, "big")
        try:
            return AESGCM(self.key).decrypt(
                nonce.to_bytes(12, "big"), packet[number_at + width :], shown
            )
        except (InvalidTag, ValueError):
            return None


@lru_cache(maxsize=256)
def initial_keys(version: Version, connection: bytes, *, server: bool = False) -> Keys:
    """The keys for Initials of one end; `connection` is the client's first destination id."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

    def expand(secret: bytes, label: str, length: int) -> bytes:
        # RFC 8446 section 7.1: HkdfLabel.
        name = b"tls13 " + label.encode()
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\x00"
        return HKDFExpand(SHA256(), length, info).derive(secret)

    initial = HKDF.extract(SHA256(), version.salt, connection)
    secret = expand(initial, "server in" if server else "client in", 32)
    prefix = "quicv2" if version.second else "quic"
    key, iv = expand(secret, f"{prefix} key", 16), expand(secret, f"{prefix} iv", 12)
    return Keys(key, iv, expand(secret, f"{prefix} hp", 16))

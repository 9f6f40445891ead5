"""The server's certificate, which TLS up to 1.2 shows in the clear."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from netwatch.model.flow import Certificate
from netwatch.model.times import SECOND

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# An explicit version 1, which DER leaves out (X.690 section 11.5); WebRTC's peers write it.
_VERSION_1 = b"\xa0\x03\x02\x01\x00"


@lru_cache(maxsize=1024)
def certificate(der: bytes) -> Certificate | None:
    """Read an X.509 certificate (RFC 5280); None if it can not be read.

    It is shown, never trusted: no chain is built and no signature is checked. A server shows the
    same one again and again, so the last ones are remembered.
    """
    # Imported on the first certificate: most conversations show none, and it takes 30 ms.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import InvalidVersion, load_der_x509_certificate

    try:
        # Certificates with a negative serial or the like are warned about, yet readable.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = load_der_x509_certificate(_without_default(der))
            key_type, key_bits = _key(read)
            return Certificate(
                subject=read.subject.rfc4514_string(),
                issuer=read.issuer.rfc4514_string(),
                not_before=_nanoseconds(read.not_valid_before_utc),
                not_after=_nanoseconds(read.not_valid_after_utc),
                sha256=sha256(der).hexdigest(),
                key_type=key_type,
                key_bits=key_bits,
            )
    except (ValueError, TypeError, OverflowError, InvalidVersion, UnsupportedAlgorithm):
        return None


def _key(read: X509) -> tuple[str | None, int | None]:
    """Kind and size of the public key; None for what the library does not know."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

    try:
        key = read.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None, None
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ec", key.key_size
    if isinstance(key, dsa.DSAPublicKey):
        return "dsa", key.key_size
    # Curves whose keys have one size (RFC 8032 section 5).
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519", 256
    return ("ed448", 456) if isinstance(key, ed448.Ed448PublicKey) else (None, None)


def _without_default(der: bytes) -> bytes:
    """The certificate with a version that goes without saying left out, else as it is."""
    if _VERSION_1 not in der[:16]:
        return der
    outer = _content(der, 0)
    inner = _content(der, outer)
    if der[inner : inner + len(_VERSION_1)] != _VERSION_1:
        return der
    short = inner - outer == 2
    end = inner + int.from_bytes(der[outer + (1 if short else 2) : inner], "big")
    signed = _sequence(der[inner + len(_VERSION_1) : end])
    return _sequence(signed + der[end:])


def _content(der: bytes, at: int) -> int:
    """Where the content of the element at `at` begins (X.690 section 8.1.3)."""
    length = der[at + 1] if at + 1 < len(der) else 0
    return at + 2 + (length & 0x7F if length & 0x80 else 0)


def _sequence(content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes((0x30, len(content))) + content
    width = (len(content).bit_length() + 7) // 8
    return bytes((0x30, 0x80 | width)) + len(content).to_bytes(width, "big") + content


def _nanoseconds(moment: datetime) -> int:
    return int((moment - _EPOCH).total_seconds()) * SECOND

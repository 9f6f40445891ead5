"""The certificate of the agents' listener: made once, self-signed, known by its fingerprint.

Agents pin the SHA-256 of the whole certificate, so neither name nor issuer nor expiry carries any
trust; the validity is long because a pinned certificate is replaced by enrolling anew.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netwatch.model.errors import NetwatchError
from netwatch.model.times import SECOND

YEARS = 20


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of the certificate (PEM) and key (PEM, mode 0600), and the pin: SHA-256 in hex."""

    certificate: Path
    key: Path
    pin: str


def identity(folder: Path, *, now: int) -> Identity:
    """The identity kept in `folder`, made at the first call; raises NetwatchError."""
    certificate, key = folder / "agents.crt", folder / "agents.key"
    if not certificate.exists():
        _make(certificate, key, now=now)
    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        raise NetwatchError(
            f"{certificate} is no certificate",
            f"remove it and {key}; a new one is made, and each agent needs its new pin",
        ) from None
    der = read.public_bytes(serialization.Encoding.DER)
    return Identity(certificate, key, hashlib.sha256(der).hexdigest())


def _make(certificate: Path, key: Path, *, now: int) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "netwatch controller")])
    start = datetime.datetime.fromtimestamp(now / SECOND, datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(days=1))
        .not_valid_after(start + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("netwatch")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    text = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # The key first: a certificate without a key would be taken for a finished identity.
    _write(key, text)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    part = path.with_suffix(path.suffix + ".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

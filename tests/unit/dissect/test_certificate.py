"""What a server's certificate says: its key, and that odd encodings are read as they are meant."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from netwatch.dissect.certificate import certificate


def made(key) -> bytes:
    """A self-signed certificate without extensions, as DER."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web.shop")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    bare = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    signed = builder.sign(key, None if bare else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "key, kind, bits",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), "rsa", 1024, id="rsa"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP256R1()), "ec", 256, id="p256"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), "ec", 521, id="p521"),
        pytest.param(ed25519.Ed25519PrivateKey.generate, "ed25519", 256, id="ed25519"),
        pytest.param(ed448.Ed448PrivateKey.generate, "ed448", 456, id="ed448"),
    ],
)
def test_kind_and_size_of_the_key(key, kind, bits):
    read = certificate(made(key()))
    assert (read.key_type, read.key_bits) == (kind, bits)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP256R1()), id="short lengths"),
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="long lengths"),
    ],
)
def test_a_version_that_goes_without_saying_may_be_said(key):
    """X.690 section 11.5 forbids it, WebRTC peers do it; the fingerprint is of the bytes."""
    der = made(key()).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00", 1)
    read = certificate(der)
    assert (read.subject, read.sha256) == ("CN=web.shop", sha256(der).hexdigest())


@pytest.mark.parametrize("length", range(0, 30))
def test_what_is_cut_off_is_no_certificate(length):
    der = made(ed25519.Ed25519PrivateKey.generate())
    der = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00", 1)
    assert certificate(der[:length]) is None

"""Real TLS handshakes between two ends in memory: no socket, no file but the certificate."""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOT_AFTER = datetime(2036, 1, 1, tzinfo=UTC)


def certificate(path: Path) -> Path:
    """Write a key and a self-signed certificate for web.shop."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web.shop")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(NOT_AFTER)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def handshake(
    pem: Path,
    version: ssl.TLSVersion,
    *,
    verify: bool = False,
    server_version: ssl.TLSVersion | None = None,
) -> tuple[bytes, bytes]:
    """What client and server said until both were content, or one gave up."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    serving.set_alpn_protocols(["h2"])
    if server_version is not None:
        serving.minimum_version = server_version
    calling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        calling.check_hostname, calling.verify_mode = False, ssl.CERT_NONE
    calling.set_alpn_protocols(["h2", "http/1.1"])
    calling.minimum_version = calling.maximum_version = version
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    client = calling.wrap_bio(to_client, from_client, server_hostname="web.shop")
    server = serving.wrap_bio(to_server, from_server, server_side=True)
    said = [b"", b""]
    for _ in range(4):
        for side, end, out, into in (
            (0, client, from_client, to_server),
            (1, server, from_server, to_client),
        ):
            with contextlib.suppress(ssl.SSLError):
                end.do_handshake()
            data = out.read()
            said[side] += data
            into.write(data)
    return said[0], said[1]

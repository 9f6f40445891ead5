"""STARTTLS in all its forms: in the clear until both ends agreed."""

from __future__ import annotations

import ssl
import struct

import pytest

from netwatch.dissect.conversation import classify
from tests.unit.dissect.handshakes import certificate, handshake


@pytest.fixture(scope="module")
def secured(tmp_path_factory) -> tuple[bytes, bytes]:
    pem = certificate(tmp_path_factory.mktemp("upgrade") / "web.pem")
    return handshake(pem, ssl.TLSVersion.TLSv1_3)


def ber(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body


LDAP_ASK = ber(0x30, b"\x02\x01\x01", ber(0x77, ber(0x80, b"1.3.6.1.4.1.1466.20037")))
LDAP_BIND = ber(0x30, b"\x02\x01\x02", ber(0x60, b"\x02\x01\x03\x04\x01a", ber(0x80, b"secret")))


def ldap_answer(code: int) -> bytes:
    answer = ber(0x78, bytes([0x0A, 1, code]), b"\x04\x00\x04\x00")
    return ber(0x30, b"\x02\x01\x01", answer)


def greeting(flags: int) -> bytes:
    body = b"\x0a8.0.36\x00" + bytes(4) + b"saltsalt\x00" + struct.pack("<H", flags) + bytes(40)
    return len(body).to_bytes(3, "little") + b"\x00" + body


def request(flags: int) -> bytes:
    return b"\x20\x00\x00\x01" + struct.pack("<II", flags, 1 << 24) + b"\xff" + bytes(23)


def rdp(kind: int, answer: int, protocol: int) -> bytes:
    choice = bytes([answer, 0]) + b"\x08\x00" + struct.pack("<I", protocol)
    return b"\x03\x00\x00\x13\x0e" + bytes([kind]) + b"\x00\x00\x12\x34\x00" + choice


STREAM = b"<stream:stream to='a' xmlns:stream='http://etherx.jabber.org/streams'>"
XMPP_TLS = b" xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
STARTUP = b"\x00\x00\x00\x11\x00\x03\x00\x00user\x00me\x00\x00"

# Each: what the client says, what a server says that accepts, what one says that refuses, what
# the client does then.
TALKS = {
    "smtp": (
        b"EHLO a\r\nSTARTTLS\r\n",
        b"220 mx ESMTP\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n",
        b"220 mx ESMTP\r\n250 mx\r\n454 no\r\n",
        b"MAIL FROM:<a@b>\r\n",
    ),
    "imap": (
        b"a CAPABILITY\r\nb STARTTLS\r\n",
        b"* OK ready\r\n* CAPABILITY IMAP4rev1\r\na OK\r\nb OK begin\r\n",
        b"* OK ready\r\n* CAPABILITY IMAP4rev1\r\na OK\r\nb BAD no\r\n",
        b"c LOGIN me secret\r\n",
    ),
    "pop3": (
        b"CAPA\r\nSTLS\r\n",
        b"+OK a\r\n+OK\r\n.\r\n+OK\r\n",
        b"+OK a\r\n+OK\r\n.\r\n-ERR\r\n",
        b"PASS x\r\n",
    ),
    "ftp": (b"AUTH TLS\r\n", b"220 a\r\n234 go\r\n", b"220 a\r\n502 no\r\n", b"PASS secret\r\n"),
    "nntp": (
        b"CAPABILITIES\r\nSTARTTLS\r\n",
        b"200 a\r\n101 b\r\n.\r\n382 go\r\n",
        b"200 a\r\n101 b\r\n.\r\n580 no\r\n",
        b"GROUP x\r\n",
    ),
    "xmpp": (
        b"<?xml version='1.0'?>" + STREAM + b"<starttls" + XMPP_TLS,
        STREAM + b"<stream:features/><proceed" + XMPP_TLS,
        STREAM + b"<stream:features/><failure" + XMPP_TLS,
        b"<auth mechanism='PLAIN'>AHNlY3JldA==</auth>",
    ),
    "postgresql": (SSL_REQUEST, b"S", b"N", STARTUP),
    "mysql": (request(0x0A85), greeting(0xFFFF), greeting(0xF7FF), b"\x05\x00\x00\x03\x03select"),
    "ldap": (LDAP_ASK, ldap_answer(0), ldap_answer(2), LDAP_BIND),
    "rdp": (rdp(0xE0, 1, 3), rdp(0xD0, 2, 1), rdp(0xD0, 2, 0), b"\x03\x00\x00\x05x"),
}
EACH = pytest.mark.parametrize("name", TALKS)


def tcp(client: bytes, server: bytes):
    return classify(client, server, protocol="tcp")


@EACH
def test_an_accepted_upgrade_is_encrypted_by_its_handshake(secured, name):
    asks, accepts, _, _ = TALKS[name]
    answer = tcp(asks + secured[0], accepts + secured[1])
    assert (answer.encryption.status, answer.encryption.proof) == ("encrypted", "handshake")
    assert (answer.application, answer.encryption.protocol) == (name, "tls")
    assert answer.encryption.server_name == "web.shop"
    assert (answer.finished, answer.initiator) == (True, "client")


@EACH
def test_it_is_not_encrypted_before_the_server_said_hello(secured, name):
    asks, accepts, _, _ = TALKS[name]
    for client, server in ((asks, accepts), (asks + secured[0], accepts)):
        answer = tcp(client, server)
        assert answer.encryption.status == (
            "unknown" if name == "rdp" and client == asks else "plaintext"
        )
        assert not answer.finished


@EACH
def test_a_refused_upgrade_is_never_encrypted(secured, name):
    """Not even if both ends' bytes look like TLS afterwards."""
    asks, _, refuses, goes_on = TALKS[name]
    for more in (goes_on, secured[0]):
        seen = tcp(asks + more, refuses + secured[1])
        assert seen.encryption.status != "encrypted"
        assert seen.application == name
    assert tcp(asks + goes_on, refuses).encryption.status in ("plaintext", "unknown")


@EACH
def test_a_client_that_only_writes_of_tls_is_not_encrypted(secured, name):
    """The upgrade comes after what settles the conversation: a message that quotes one."""
    asks, accepts, refuses, goes_on = TALKS[name]
    first = goes_on + asks if name not in ("mysql", "rdp", "xmpp") else asks + goes_on + asks
    seen = tcp(first + secured[0], refuses + accepts + secured[1])
    assert seen.encryption.status != "encrypted"


@EACH
def test_one_direction_is_enough_if_it_acts_on_the_agreement(secured, name):
    """The other end was not captured: what this one did is proof by negotiation."""
    asks, _, _, _ = TALKS[name]
    seen = tcp(asks + secured[0], b"").encryption
    if name in ("smtp", "ftp", "postgresql", "ldap", "mysql", "xmpp"):
        assert (seen.status, seen.proof) == ("encrypted", "negotiation")
    else:
        assert seen.status != "encrypted"

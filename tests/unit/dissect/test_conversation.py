"""What the first bytes of a conversation prove, and above all what they do not."""

from __future__ import annotations

import ssl
import struct
from hashlib import md5

import pytest

from netwatch.dissect.conversation import LIMIT, classify
from tests.unit.dissect.handshakes import NOT_AFTER, certificate, handshake

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls") / "web.pem")


def tcp(client: bytes, server: bytes):
    return classify(client, server, protocol="tcp")


@pytest.mark.parametrize("version, name", [(V12, "TLSv1.2"), (V13, "TLSv1.3")])
def test_a_whole_handshake_proves_encryption(pem, version, name):
    """Both hellos and something sealed: encrypted, with everything that was agreed."""
    answer = tcp(*handshake(pem, version))
    seen = answer.encryption
    assert (seen.status, seen.proof, seen.protocol) == ("encrypted", "handshake", "tls")
    assert seen.version == name
    assert seen.server_name == "web.shop"
    assert seen.alpn_offered == ("h2", "http/1.1")
    assert answer.application == "tls"
    assert answer.finished
    assert answer.initiator == "client"


def test_tls_12_shows_certificate_and_protocol_tls_13_hides_them(pem):
    older = tcp(*handshake(pem, V12)).encryption
    newer = tcp(*handshake(pem, V13)).encryption
    assert older.certificate is not None
    assert older.certificate.subject == "CN=web.shop"
    assert older.certificate.not_after == int(NOT_AFTER.timestamp()) * 1_000_000_000
    assert (older.alpn, newer.alpn, newer.certificate) == ("h2", None, None)


def test_a_client_hello_alone_is_an_offer_and_proves_nothing(pem):
    client, _ = handshake(pem, V13)
    hello = client[: 5 + struct.unpack(">H", client[3:5])[0]]
    seen = tcp(hello, b"").encryption
    assert (seen.status, seen.proof, seen.version) == ("unknown", "negotiation", None)
    assert seen.server_name == "web.shop"
    assert seen.ja3 is not None and seen.ja4.startswith("t13d")


def test_hellos_without_anything_sealed_are_not_yet_encryption(pem):
    client, server = handshake(pem, V12)
    hello = server[: 5 + struct.unpack(">H", server[3:5])[0]]
    seen = tcp(client[: 5 + struct.unpack(">H", client[3:5])[0]], hello).encryption
    assert seen.status == "unknown"
    assert seen.version == "TLSv1.2"


def test_a_refused_handshake_is_not_encryption(pem):
    """The server answers with an alert instead of a ServerHello."""
    answer = tcp(*handshake(pem, V12, server_version=V13))
    assert answer.encryption.status == "unknown"
    assert answer.finished


def test_a_certificate_that_the_client_rejects_ends_unencrypted(pem):
    answer = tcp(*handshake(pem, V12, verify=True))
    assert answer.encryption.status == "unknown"
    assert answer.encryption.cipher is not None


@pytest.mark.parametrize("version", [V12, V13])
def test_one_direction_is_enough_if_it_acts_on_the_agreement(pem, version):
    """One end seen: encrypted once it switched; proof says that only one end was seen."""
    client, server = handshake(pem, version)
    for answer in (tcp(client, b""), tcp(b"", server)):
        assert (answer.encryption.status, answer.encryption.proof) == ("encrypted", "negotiation")
    assert tcp(client, b"").encryption.version == version.name.replace("v1_", "v1.")
    assert tcp(b"", server).encryption.cipher is not None


def test_directions_the_wrong_way_round_are_turned(pem):
    client, server = handshake(pem, V13)
    answer = tcp(server, client)
    assert answer.initiator == "server"
    assert answer.encryption == tcp(client, server).encryption


def test_plaintext_behind_a_real_handshake_is_not_called_encrypted(pem):
    client, server = handshake(pem, V12)
    assert tcp(client + b"GET / HTTP/1.1\r\n\r\n", server).encryption.status == "unknown"


def test_a_hello_in_many_records_is_read_whole(pem):
    """A message may span records (RFC 8446 section 5.1)."""
    client, server = handshake(pem, V13)
    length = struct.unpack(">H", client[3:5])[0]
    hello, rest = client[5 : 5 + length], client[5 + length :]
    pieces = [hello[at : at + 50] for at in range(0, length, 50)]
    split = b"".join(b"\x16\x03\x01" + struct.pack(">H", len(p)) + p for p in pieces)
    assert tcp(split + rest, server).encryption == tcp(client, server).encryption


def server_hello(cipher: int, version: int = 0x0303) -> bytes:
    body = struct.pack(">H", version) + bytes(32) + b"\x00" + struct.pack(">HB", cipher, 0)
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + struct.pack(">H", len(message)) + message


def client_hello(*ciphers: int) -> bytes:
    offers = b"".join(struct.pack(">H", cipher) for cipher in ciphers)
    body = (
        b"\x03\x03" + bytes(32) + b"\x00" + struct.pack(">H", len(offers)) + offers + b"\x01\x00"
    )
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


SWITCH = b"\x14\x03\x03\x00\x01\x01"


@pytest.mark.parametrize(
    "offered, chosen, status",
    [
        pytest.param((0xC02F,), 0xC02F, "encrypted", id="an honest choice"),
        pytest.param((0x003B,), 0x003B, "plaintext", id="a NULL cipher encrypts nothing"),
        pytest.param((0xC0B4,), 0xC0B4, "plaintext", id="integrity only (RFC 9150)"),
        pytest.param((0xC02F,), 0xC030, "unknown", id="a choice that was not offered"),
        pytest.param((0x1234,), 0x1234, "unknown", id="a suite that nobody registered"),
    ],
)
def test_the_chosen_suite_decides(offered, chosen, status):
    answer = tcp(client_hello(*offered) + SWITCH, server_hello(chosen) + SWITCH)
    assert answer.encryption.status == status


def test_records_without_a_hello_are_only_a_claim():
    """A capture that began too late: the record type says encrypted, nothing proves it."""
    record = b"\x17\x03\x03\x00\x20" + bytes(32)
    seen = tcp(record * 3, record * 3).encryption
    assert (seen.status, seen.proof, seen.version) == ("unknown", "content", None)


def kexinit(cipher: bytes) -> bytes:
    lists = [b"curve25519-sha256", b"ssh-ed25519", cipher, cipher, b"m", b"m", b"none", b"none"]
    body = b"\x14" + bytes(16)
    body += b"".join(struct.pack(">I", len(each)) + each for each in [*lists, b"", b""]) + bytes(5)
    return packet(body)


def packet(body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 5, 4) + body + bytes(4)


NEWKEYS = packet(b"\x15")


@pytest.mark.parametrize(
    "client, server, status, proof",
    [
        pytest.param(b"aes256-ctr", b"aes256-ctr", "encrypted", "handshake", id="agreed"),
        pytest.param(b"none,aes256-ctr", b"none", "plaintext", "handshake", id="none agreed"),
        pytest.param(b"aes256-ctr", b"aes128-ctr", "unknown", "negotiation", id="no agreement"),
    ],
)
def test_ssh_is_encrypted_after_newkeys_by_the_agreed_cipher(client, server, status, proof):
    banner = b"SSH-2.0-x\r\n"
    answer = tcp(banner + kexinit(client) + NEWKEYS, banner + kexinit(server) + NEWKEYS)
    assert (answer.encryption.status, answer.encryption.proof) == (status, proof)
    assert (answer.application, answer.encryption.version) == ("ssh", "SSH-2.0")


def test_ssh_shows_both_fingerprints_whichever_way_round_it_is_handed_over():
    """Each end's lists for its own direction; only a client sends message 30."""
    said = b"curve25519-sha256;aes256-ctr;m;none"
    client = b"SSH-2.0-x\r\n" + kexinit(b"aes256-ctr") + packet(b"\x1e" + bytes(40)) + NEWKEYS
    server = b"SSH-2.0-y\r\n" + kexinit(b"aes128-ctr,aes256-ctr") + NEWKEYS
    answer, turned = tcp(client, server), tcp(server, client)
    assert answer.encryption.hassh == md5(said, usedforsecurity=False).hexdigest()
    assert answer.encryption.hassh_server not in (None, answer.encryption.hassh)
    assert (answer.initiator, turned.initiator) == ("client", "server")
    assert turned.encryption == answer.encryption


def test_ssh_banners_alone_prove_no_encryption():
    assert tcp(b"SSH-2.0-a\r\n", b"SSH-2.0-b\r\n").encryption.status == "unknown"


DNS = bytes.fromhex("abcd01000001000000000000") + b"\x03www\x04shop\x00\x00\x01\x00\x01"


@pytest.mark.parametrize(
    "client, server, protocol, application",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", "tcp", "http", id="request"),
        pytest.param(b"", b"HTTP/1.0 404 Not Found\r\n", "tcp", "http", id="response only"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"", "tcp", "http2", id="h2c"),
        pytest.param(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", "tcp", "redis", id="redis"),
        pytest.param(
            b"\x00\x00\x00\x11\x00\x03\x00\x00user\x00x\x00\x00", b"", "tcp", "postgresql", id="pg"
        ),
        pytest.param(b"\x10\x10\x00\x04MQTT\x04", b"", "tcp", "mqtt", id="mqtt"),
        pytest.param(b"AMQP\x00\x00\x09\x01", b"", "tcp", "amqp", id="amqp"),
        pytest.param(DNS, b"", "udp", "dns", id="dns"),
        pytest.param(struct.pack(">H", len(DNS)) + DNS, b"", "tcp", "dns", id="dns over tcp"),
    ],
)
def test_what_the_bytes_say_is_named_and_plaintext(client, server, protocol, application):
    answer = classify(client, server, protocol=protocol)
    assert (answer.application, answer.encryption.status) == (application, "plaintext")
    assert answer.encryption.proof == "content"
    assert answer.finished


@pytest.mark.parametrize(
    "client, server",
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"\x16\x03", b"", id="two bytes of a record"),
        pytest.param(b"hello", b"world", id="no protocol"),
        pytest.param(bytes(100), bytes(100), id="zeros"),
    ],
)
def test_what_nothing_proves_is_unknown(client, server):
    answer = tcp(client, server)
    assert answer.encryption.status == "unknown"
    assert answer.application is None


def test_collecting_ends_however_strange_the_bytes_are():
    assert tcp(b"\x01" * LIMIT, b"").finished
    assert not tcp(b"\x01" * 10, b"").finished
    assert classify(b"\x01", b"", protocol="tcp", complete=True).finished

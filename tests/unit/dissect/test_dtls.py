"""DTLS: hellos in fragments, cookies, and what shares its ports."""

from __future__ import annotations

import struct

import pytest

from netwatch.dissect.conversation import classify

V10, V12 = b"\xfe\xff", b"\xfe\xfd"
CIPHER = 0xC02F


def record(kind: int, body: bytes, *, version: bytes = V12, epoch: int = 0) -> bytes:
    return bytes([kind]) + version + struct.pack(">HHIH", epoch, 0, 7, len(body)) + body


def message(kind: int, number: int, body: bytes, *, pieces: int = 1) -> list[bytes]:
    """The fragments of a handshake message, last first."""
    size = -(-len(body) // pieces)
    head = bytes([kind]) + len(body).to_bytes(3, "big") + struct.pack(">H", number)
    cut = [(at, body[at : at + size]) for at in range(0, len(body), size)]
    return [head + at.to_bytes(3, "big") + len(p).to_bytes(3, "big") + p for at, p in cut][::-1]


def client_hello(version: bytes = V12, *, cookie: bytes = b"", supported: bytes = b"") -> bytes:
    name = b"\x00\x00\x00\x0d\x00\x0b\x00\x00\x08web.shop"
    if supported:
        name += b"\x00\x2b" + struct.pack(">HB", len(supported) + 1, len(supported)) + supported
    offers = struct.pack(">HHH", 4, CIPHER, 0x1301)
    start = version + bytes(32) + b"\x00" + bytes([len(cookie)]) + cookie
    return start + offers + b"\x01\x00" + struct.pack(">H", len(name)) + name


def server_hello(version: bytes = V12, cipher: int = CIPHER, *, extensions: bytes = b"") -> bytes:
    tail = struct.pack(">H", len(extensions)) + extensions if extensions else b""
    return version + bytes(range(32)) + b"\x00" + struct.pack(">HB", cipher, 0) + tail


SEALED = record(22, bytes(40), epoch=1)
SWITCH = record(20, b"\x01")
STUN = b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12) + b"\x80\x22\x00\x00"


def hellos(*, pieces: int = 1) -> tuple[list[bytes], list[bytes]]:
    """A handshake with HelloVerifyRequest."""
    verify = message(3, 0, V10 + b"\x04abcd")
    again = message(1, 1, client_hello(cookie=b"abcd"), pieces=pieces)
    client = [record(22, part) for part in [*message(1, 0, client_hello()), *again]]
    server = [record(22, verify[0], version=V10)]
    server += [record(22, part) for part in message(2, 1, server_hello(), pieces=pieces)]
    return [*client, SWITCH + SEALED], [*server, SWITCH + SEALED]


def judged(client: list[bytes], server: list[bytes], *, sizes: bool = True):
    return classify(
        b"".join(client),
        b"".join(server),
        protocol="udp",
        client_sizes=[len(each) for each in client] if sizes else (),
        server_sizes=[len(each) for each in server] if sizes else (),
    )


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("sizes", [True, False], ids=["borders known", "borders not known"])
def test_a_handshake_with_cookie_and_fragments_is_read(pieces, sizes):
    answer = judged(*hellos(pieces=pieces), sizes=sizes)
    seen = answer.encryption
    assert (seen.status, seen.proof, seen.protocol) == ("encrypted", "handshake", "dtls")
    assert (seen.version, seen.server_name) == ("DTLSv1.2", "web.shop")
    assert seen.cipher == "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    assert seen.ja4.startswith("dd2d0201")
    assert (answer.application, answer.initiator) == ("dtls", "client")


def test_dtls_13_is_known_by_the_extension_and_its_short_header():
    chosen = server_hello(cipher=0x1301, extensions=b"\x00\x2b\x00\x02\xfe\xfc")
    client = [record(22, message(1, 0, client_hello(supported=b"\xfe\xfc"))[0])]
    server = [record(22, message(2, 0, chosen)[0]), b"\x2f" + bytes(40)]
    seen = judged(client, server).encryption
    assert (seen.status, seen.version) == ("encrypted", "DTLSv1.3")


def test_stun_and_media_on_the_same_ports_are_passed_over():
    """RFC 7983: one pair of ports carries STUN, DTLS and RTP."""
    client, server = hellos()
    mixed = judged(
        [STUN, *client[:1], STUN, *client[1:], b"\x80\x60" + bytes(30)], [STUN, *server]
    )
    assert mixed.encryption == judged(client, server).encryption


@pytest.mark.parametrize(
    "client, server",
    [
        pytest.param([], hellos()[1][:2], id="a server's hello alone"),
        pytest.param(hellos()[0][:2], hellos()[1][:2], id="hellos and nothing sealed"),
        pytest.param(hellos()[0][:2], [record(21, b"\x02\x28")], id="the server refuses"),
        pytest.param([*hellos()[0], b"GET / HTTP/1.1"], hellos()[1], id="plaintext behind it"),
        pytest.param([SEALED, SEALED], [SEALED], id="a capture that began too late"),
    ],
)
def test_what_is_not_agreed_is_not_encrypted(client, server):
    assert judged(client, server).encryption.status == "unknown"

"""Tunnels: encrypted only where the ends' identifiers tie the answer to its request."""

from __future__ import annotations

import struct

import pytest

from netwatch.dissect.conversation import classify

ME, YOU = b"\x01\x02\x03\x04", b"\x0a\x0b\x0c\x0d"
INITIATION = b"\x01\x00\x00\x00" + ME + bytes(140)
RESPONSE = b"\x02\x00\x00\x00" + YOU + ME + bytes(80)


def data(to: bytes, counter: int) -> bytes:
    return b"\x04\x00\x00\x00" + to + struct.pack("<Q", counter) + bytes(48)


def judged(client: list[bytes], server: list[bytes]):
    return classify(
        b"".join(client),
        b"".join(server),
        protocol="udp",
        client_sizes=[len(each) for each in client],
        server_sizes=[len(each) for each in server],
    )


@pytest.mark.parametrize(
    "client, server, status, proof",
    [
        pytest.param([INITIATION, data(YOU, 0)], [RESPONSE], "encrypted", "handshake", id="whole"),
        pytest.param([INITIATION], [RESPONSE], "unknown", "negotiation", id="not yet used"),
        pytest.param([INITIATION], [], "unknown", "negotiation", id="no answer"),
        pytest.param(
            [INITIATION, data(ME, 0)], [RESPONSE], "unknown", "negotiation", id="another session"
        ),
        pytest.param([data(YOU, 7), data(YOU, 8)], [], "unknown", "content", id="too late"),
    ],
)
def test_wireguard(client, server, status, proof):
    answer = judged(client, server)
    assert (answer.encryption.status, answer.encryption.proof) == (status, proof)
    assert answer.application == answer.encryption.protocol == "wireguard"


def ike(exchange: int, first: int, body: bytes, *, responder: bytes) -> bytes:
    head = b"initiate" + responder + bytes([first, 0x20, exchange, 8]) + bytes(4)
    return head + struct.pack(">I", 28 + len(body)) + body


def proposal(cipher: int) -> bytes:
    transform = b"\x00\x00\x00\x08\x01\x00" + struct.pack(">H", cipher)
    inner = b"\x00\x00" + struct.pack(">H", 8 + len(transform)) + b"\x01\x01\x00\x01" + transform
    return b"\x00\x00" + struct.pack(">H", 4 + len(inner)) + inner


@pytest.mark.parametrize(
    "cipher, sealed, status",
    [
        pytest.param(20, 46, "encrypted", id="AES-GCM agreed and used"),
        pytest.param(20, 39, "unknown", id="what follows is not sealed"),
        pytest.param(11, 46, "plaintext", id="NULL agreed"),
        pytest.param(999, 46, "unknown", id="a cipher that nobody registered"),
    ],
)
def test_ike_is_what_the_first_exchange_agreed(cipher, sealed, status):
    ask = ike(34, 33, proposal(20) + proposal(12), responder=bytes(8))
    answer = ike(34, 33, proposal(cipher), responder=b"response")
    use = ike(35, sealed, bytes(40), responder=b"response")
    seen = judged([ask, use], [answer])
    assert (seen.application, seen.encryption.version) == ("ike", "IKEv2")
    assert seen.encryption.status == status


def test_openvpn_is_named_and_nothing_is_claimed_of_it():
    asks = b"\x38session1" + bytes(5)
    answers = b"\x40session2\x01" + bytes(4) + b"session1" + bytes(4)
    seen = judged([asks], [answers])
    assert (seen.application, seen.encryption.status) == ("openvpn", "unknown")


@pytest.mark.parametrize("taken, status", [(True, "encrypted"), (False, "unknown")])
def test_sslv2_is_encrypted_once_the_server_used_the_key(taken, status):
    offer = b"\x07\x00\xc0\x01\x00\x80"
    hello = b"\x01\x00\x02" + struct.pack(">HHH", len(offer), 0, 16) + offer + bytes(16)
    key = b"\x02\x07\x00\xc0" + bytes(30)
    chosen = b"\x04\x00\x01\x00\x02" + bytes(40)
    client = b"".join(b"\x80" + bytes([len(each)]) + each for each in (hello, key))
    server = b"\x80" + bytes([len(chosen)]) + chosen + (b"\x80\x10" + bytes(16)) * taken
    seen = classify(client, server, protocol="tcp").encryption
    assert (seen.status, seen.version) == (status, "SSLv2")
    assert seen.cipher == "SSL_CK_DES_192_EDE3_CBC_WITH_MD5"

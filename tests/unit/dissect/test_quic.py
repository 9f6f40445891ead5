"""QUIC's Initial packets are opened, and what they carry is judged like any handshake."""

from __future__ import annotations

import ssl

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netwatch.dissect.conversation import classify
from netwatch.dissect.quic_keys import VERSIONS, Keys, initial_keys
from tests.unit.dissect.handshakes import certificate, handshake

V1, V2, D29 = (bytes.fromhex(number) for number in ("00000001", "6b3343cf", "ff00001d"))
FIRST, MINE, THEIRS = bytes.fromhex("8394c8f03e515708"), b"client", b"server"
PADDING = bytes(900)


@pytest.fixture(scope="module")
def hellos(tmp_path_factory) -> tuple[bytes, bytes]:
    """The two hellos of a real TLS 1.3 handshake, without records."""
    pem = certificate(tmp_path_factory.mktemp("quic") / "web.pem")
    said = handshake(pem, ssl.TLSVersion.TLSv1_3)
    return tuple(each[5 : 5 + int.from_bytes(each[3:5], "big")] for each in said)


def varint(number: int) -> bytes:
    return (number | 0x80000000).to_bytes(4, "big")


def crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def ids(to: bytes, sender: bytes) -> bytes:
    return bytes([len(to)]) + to + bytes([len(sender)]) + sender


def initial(keys: Keys, frames: bytes, *, version: bytes, to: bytes, sender: bytes) -> bytes:
    """Seal a packet as RFC 9001 section 5 says, with packet number 2 in four bytes."""
    kind = 0xD0 if version == V2 else 0xC0
    number = (2).to_bytes(4, "big")
    frames += bytes(max(0, 20 - len(frames)))
    head = bytes([kind | 3]) + version + ids(to, sender) + b"\x00"
    head += varint(len(frames) + 4 + 16) + number
    nonce = (int.from_bytes(keys.iv, "big") ^ 2).to_bytes(12, "big")
    sealed = AESGCM(keys.key).encrypt(nonce, frames, head)
    hide = Cipher(algorithms.AES(keys.header), modes.ECB()).encryptor()
    mask = hide.update(sealed[:16])
    first = bytes([head[0] ^ mask[0] & 0x0F])
    hidden = bytes(a ^ b for a, b in zip(number, mask[1:5], strict=True))
    return first + head[1:-4] + hidden + sealed


def later(version: bytes, to: bytes, sender: bytes) -> bytes:
    """A Handshake packet: sealed with keys that only the ends have."""
    kind = 0xF0 if version == V2 else 0xE0
    return bytes([kind]) + version + ids(to, sender) + varint(40) + b"\x99" * 40


def both(version: bytes, hellos: tuple[bytes, bytes]) -> tuple[list[bytes], list[bytes]]:
    """The datagrams of a whole handshake; the client's hello is in two, the later part first."""
    said = VERSIONS[version]
    mine, theirs = initial_keys(said, FIRST), initial_keys(said, FIRST, server=True)
    to = {"version": version, "to": FIRST, "sender": MINE}
    back = {"version": version, "to": MINE, "sender": THEIRS}
    client = [
        initial(mine, crypto(200, hellos[0][200:]) + PADDING, **to),
        initial(mine, b"\x01" + crypto(0, hellos[0][:200]) + PADDING, **to),
        later(version, THEIRS, MINE),
    ]
    ack = b"\x02" + varint(2) + varint(0) + varint(0) + varint(0)
    server = [
        initial(theirs, ack + crypto(0, hellos[1]), **back) + later(version, MINE, THEIRS),
    ]
    return client, server


def judged(client: list[bytes], server: list[bytes], *, sizes: bool = True):
    return classify(
        b"".join(client),
        b"".join(server),
        protocol="udp",
        client_sizes=[len(each) for each in client] if sizes else (),
        server_sizes=[len(each) for each in server] if sizes else (),
    )


@pytest.mark.parametrize(
    "version, key, iv, header",
    [
        pytest.param(
            V1,
            "1f369613dd76d5467730efcbe3b1a22d",
            "fa044b2f42a3fd3b46fb255c",
            "9f50449e04a0e810283a1e9933adedd2",
            id="RFC 9001 appendix A.1",
        ),
        pytest.param(
            V2,
            "8b1a0bc121284290a29e0971b5cd045d",
            "91f73e2351d8fa91660e909f",
            "45b95e15235d6f45a6b19cbcb0294ba9",
            id="RFC 9369 appendix A.1",
        ),
    ],
)
def test_the_client_keys_are_those_of_the_rfc(version, key, iv, header):
    keys = initial_keys(VERSIONS[version], FIRST)
    assert (keys.key.hex(), keys.iv.hex(), keys.header.hex()) == (key, iv, header)


@pytest.mark.parametrize("sizes", [True, False], ids=["borders known", "borders not known"])
@pytest.mark.parametrize(
    "version, name",
    [(V1, "QUICv1"), (V2, "QUICv2"), (D29, "QUIC-draft-29")],
)
def test_a_whole_handshake_proves_encryption(hellos, version, name, sizes):
    """The hello is put together from reordered datagrams, the server's answer is opened, too."""
    answer = judged(*both(version, hellos), sizes=sizes)
    seen = answer.encryption
    assert (seen.status, seen.proof, seen.protocol) == ("encrypted", "handshake", "quic")
    assert (seen.version, seen.server_name) == (name, "web.shop")
    assert seen.alpn_offered == ("h2", "http/1.1")
    assert seen.cipher.startswith("TLS_AES_") and seen.ja4.startswith("q13d")
    assert (answer.application, answer.initiator, answer.finished) == ("quic", "client", True)


def test_directions_the_wrong_way_round_are_turned(hellos):
    client, server = both(V1, hellos)
    answer = judged(server, client)
    assert answer.initiator == "server"
    assert answer.encryption == judged(client, server).encryption


def test_a_client_alone_is_an_offer(hellos):
    client, _ = both(V1, hellos)
    seen = judged(client[:2], []).encryption
    assert (seen.status, seen.server_name, seen.cipher) == ("unknown", "web.shop", None)


def test_a_server_that_closes_is_not_encryption(hellos):
    """CONNECTION_CLOSE in an Initial: the server refused the handshake."""
    client, _ = both(V1, hellos)
    keys = initial_keys(VERSIONS[V1], FIRST, server=True)
    close = initial(keys, b"\x1c\x41\x28\x06\x00", version=V1, to=MINE, sender=THEIRS)
    answer = judged(client[:2], [close])
    assert answer.encryption.status == "unknown"
    assert answer.finished


def test_a_packet_that_does_not_open_proves_nothing(hellos):
    """One bit of a sealed packet is another: only the claim of the header is left."""
    client, _ = both(V1, hellos)
    damaged = [each[:-1] + bytes([each[-1] ^ 1]) for each in client[:2]]
    seen = judged(damaged, []).encryption
    assert (seen.status, seen.proof, seen.server_name) == ("unknown", "content", None)


def test_a_version_that_is_there_to_be_refused_is_passed_over(hellos):
    """RFC 9000 section 15: clients offer reserved versions to keep servers honest."""
    client, server = both(V1, hellos)
    reserved = b"\xca\x1a\x2a\x3a\x4a" + client[0][5:]
    assert judged([reserved, *client], server).encryption.status == "encrypted"

"""Hellos as programs of today say them: larger than a packet, with post-quantum keys and ECH."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netwatch.dissect.conversation import classify
from tests.unit.capture.files.captures import SYN, ethernet, ip, pcap, reading, tcp

RECORDED = json.loads((Path(__file__).parent / "hellos.json").read_text())
DATA = Path(__file__).parents[3] / ".." / "shared" / "data" / "pcaps"
# What a segment carries on Ethernet.
SEGMENT = 1448


def said(program: str) -> tuple[bytes, bytes]:
    return tuple(bytes.fromhex(RECORDED[program][end]) for end in ("client", "server"))


def in_records(hello: bytes, size: int) -> bytes:
    """The same message, cut into records of at most `size` bytes; what follows it is kept."""
    length = int.from_bytes(hello[3:5], "big")
    body, rest = hello[5 : 5 + length], hello[5 + length :]
    parts = [body[at : at + size] for at in range(0, length, size)]
    return b"".join(hello[:3] + len(part).to_bytes(2, "big") + part for part in parts) + rest


@pytest.mark.parametrize(("program", "ech"), [("openssl", False), ("chromium", True)])
def test_a_hybrid_key_exchange_is_named_by_its_group(program: str, ech: bool) -> None:
    """RFC 8446 section 4.2.8; draft-ietf-tls-ecdhe-mlkem: 0x11ec."""
    client, server = said(program)
    assert int.from_bytes(client[3:5], "big") > 1500
    found = classify(client, server, protocol="tcp").encryption
    assert (found.status, found.proof, found.version) == ("encrypted", "handshake", "TLSv1.3")
    assert (found.group, found.server_name) == ("X25519MLKEM768", "web.shop")
    assert found.alpn_offered == ("h2", "http/1.1")
    assert found.ech is ech


def test_the_name_in_a_hello_with_ech_is_told_as_one_that_may_be_a_front() -> None:
    """Nobody on the way can tell ECH from GREASE (RFC 9849 section 6.2); JA4 leaves it in."""
    found = classify(said("chromium")[0], b"", protocol="tcp").encryption
    assert (found.server_name, found.ech) == ("web.shop", True)
    assert found.ja4 is not None and found.ja4.startswith("t13d1517h2_8daaf6152771_")


@pytest.mark.parametrize(
    "bytes_said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x05hello" * 3]
)
def test_without_a_hello_nothing_is_said_about_ech(bytes_said: bytes) -> None:
    assert classify(bytes_said, b"", protocol="tcp").encryption.ech is None


@pytest.mark.parametrize("program", ["openssl", "chromium"])
@pytest.mark.parametrize("size", [300, 1024])
def test_a_large_hello_may_come_in_many_records(program: str, size: int) -> None:
    """Section 5.1: fragments of a message, as many as the sender likes; its JA4 stays the same."""
    client, server = said(program)
    whole = classify(client, server, protocol="tcp").encryption
    assert classify(in_records(client, size), server, protocol="tcp").encryption == whole


@pytest.mark.parametrize("order", ["as sent", "swapped", "first twice"])
@pytest.mark.parametrize("program", ["openssl", "chromium"])
def test_a_large_hello_comes_in_several_segments(program: str, order: str) -> None:
    """As the wire has it, and as a capture of several queues may have it."""
    client, server = said(program)
    pieces = [(at, client[at : at + SEGMENT]) for at in range(0, len(client), SEGMENT)]
    assert len(pieces) > 1
    if order == "swapped":
        pieces = pieces[::-1]
    elif order == "first twice":
        pieces = [pieces[0], *pieces]
    up, down = ("198.18.0.1", "198.18.0.2"), ("198.18.0.2", "198.18.0.1")
    frames = [
        ethernet(ip(*up, 6, tcp(4000, 443, SYN, seq=99))),
        ethernet(ip(*down, 6, tcp(443, 4000, SYN | 16, seq=499))),
        *(ethernet(ip(*up, 6, tcp(4000, 443, 24, data, seq=100 + at))) for at, data in pieces),
        *(
            ethernet(ip(*down, 6, tcp(443, 4000, 24, server[at : at + SEGMENT], seq=500 + at)))
            for at in range(0, len(server), SEGMENT)
        ),
    ]
    (flow,) = reading(pcap(frames)).flows()
    assert flow.encryption == classify(client, server, protocol="tcp").encryption
    assert (flow.encryption.group, flow.direction) == ("X25519MLKEM768", "seen")


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/pcaps is not on this machine")
@pytest.mark.parametrize(
    ("file", "name"),
    [
        pytest.param(
            "ndpi__tls_ech.pcapng", "performance.radar.cloudflare.com", id="the last drafts"
        ),
        pytest.param("ndpi__tls-esni-fuzzed.pcap", None, id="the first drafts"),
    ],
)
def test_recorded_ech_is_told(file: str, name: str | None) -> None:
    hidden = [
        flow.encryption
        for flow in reading((DATA / file).read_bytes()).flows()
        if flow.encryption.ech
    ]
    assert {each.server_name for each in hidden} == {name}

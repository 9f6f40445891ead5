"""No capture, however damaged, is worth a traceback; what is counted is what was there."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netwatch.capture.files.reading import read
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import flow_as_json
from tests.unit.capture.files.captures import ethernet, ip, pcap, pcapng, reading, tcp, udp

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "pcaps"
SEED = 20261122
MUTATIONS = 3


def consume(data: bytes) -> None:
    """Read a capture to its end; the only error allowed is the one that people are told."""
    try:
        result = read(io.BytesIO(data), "mutation")
    except NetwatchError:
        return
    lines = [flow_as_json(flow) for flow in result.flows()]
    assert sum(each["client_packets"] + each["server_packets"] for each in lines) == result.packets
    assert all(each["client_payload_bytes"] >= 0 <= each["server_payload_bytes"] for each in lines)


def mutations(data: bytes, draw: random.Random) -> list[bytes]:
    """Bit flips, a truncation and a splice."""
    flipped = bytearray(data)
    for _ in range(1 + len(data) // 200):
        flipped[draw.randrange(24, len(data))] ^= 1 << draw.randrange(8)
    cut = draw.randrange(len(data))
    here, there = draw.randrange(len(data)), draw.randrange(len(data))
    return [bytes(flipped), data[:cut], data[:here] + data[there:]]


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/pcaps is not on this machine")
def test_no_mutation_of_a_capture_raises():
    """A seeded sample: mutations of each capture below 100 kB."""
    draw = random.Random(SEED)
    print(f"seed {SEED}")
    for file in sorted(DATA.glob("*.*cap*")):
        data = file.read_bytes()
        if len(data) < 100_000:
            for each in mutations(data, draw):
                consume(each)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_behind_a_header_are_read(data):
    consume(pcap([])[:24] + data)
    consume(pcapng([]) + data)


ENDS = st.sampled_from(["198.18.0.1", "198.18.0.2", "2001:db8::1"])
PACKET = st.tuples(
    ENDS,
    st.sampled_from(["198.18.0.9", "2001:db8::9"]),
    st.sampled_from([80, 443]),
    st.sampled_from([2, 18, 16, 17, 4, 24]),
    st.binary(max_size=30),
    st.booleans(),
).filter(lambda each: (":" in each[0]) == (":" in each[1]))


def packet(drawn) -> bytes:
    source, target, port, flags, data, datagram = drawn
    body = udp(5000, port, data) if datagram else tcp(5000, port, flags, data, seq=len(data))
    return ip(source, target, 17 if datagram else 6, body)


@given(st.lists(PACKET, max_size=40))
@settings(max_examples=200, deadline=None)
def test_every_packet_and_byte_is_in_exactly_one_flow(drawn):
    packets = [packet(each) for each in drawn]
    flows = list(reading(pcap([ethernet(each) for each in packets])).flows())
    assert sum(flow.client_packets + flow.server_packets for flow in flows) == len(packets)
    assert sum(flow.client_bytes + flow.server_bytes for flow in flows) == sum(map(len, packets))
    ends = {(flow.client, flow.server, flow.protocol, flow.first_seen) for flow in flows}
    assert len(ends) == len(flows)


@given(st.lists(PACKET, max_size=40))
@settings(max_examples=100, deadline=None)
def test_both_formats_say_the_same(drawn):
    frames = [ethernet(packet(each)) for each in drawn]
    assert list(reading(pcap(frames)).flows()) == list(reading(pcapng(frames)).flows())

"""A capture becomes flows: who is the client, how it went, how much it was."""

from __future__ import annotations

import itertools
import struct

import pytest

from netwatch.model.errors import NetwatchError
from tests.unit.capture.files.captures import (
    ACK,
    FIN,
    PUSH,
    RST,
    SYN,
    block,
    ethernet,
    flows,
    ip,
    pcap,
    pcapng,
    reading,
    tcp,
    udp,
)

A, B = "198.18.0.1", "198.18.0.2"
A6, B6 = "2001:db8::1", "2001:db8::2"


def there(flags: int, data: bytes = b"", *, seq: int = 0, port: int = 4000) -> bytes:
    return ip(A, B, 6, tcp(port, 80, flags, data, seq=seq))


def back(flags: int, data: bytes = b"", *, seq: int = 0, port: int = 4000) -> bytes:
    return ip(B, A, 6, tcp(80, port, flags, data, seq=seq))


OPENED = (there(SYN, seq=99), back(SYN | ACK, seq=499), there(ACK, seq=100))


def test_one_connection_is_one_flow_with_both_directions_counted():
    (flow,) = flows(*OPENED, there(PUSH | ACK, b"hello", seq=100), back(ACK, b"hi", seq=500))
    assert (flow.client.address, flow.client.port) == (A, 4000)
    assert (flow.server.address, flow.server.port) == (B, 80)
    assert (flow.client_packets, flow.server_packets) == (3, 2)
    assert (flow.client_bytes, flow.server_bytes) == (3 * 40 + 5, 2 * 40 + 2)
    assert (flow.client_payload_bytes, flow.server_payload_bytes) == (5, 2)
    assert (flow.state, flow.direction, flow.protocol) == ("established", "seen", "tcp")
    assert (flow.first_seen, flow.last_seen) == (
        1_700_000_000_000_001_000,
        1_700_000_000_000_005_000,
    )


@pytest.mark.parametrize(
    "packets, state",
    [
        pytest.param([there(SYN)], "unanswered", id="a SYN into nothing"),
        pytest.param([there(SYN), there(SYN)], "unanswered", id="repeated"),
        pytest.param([there(SYN), back(RST | ACK)], "refused", id="RST answers the SYN"),
        pytest.param(list(OPENED), "established", id="three ways"),
        pytest.param([*OPENED, there(RST)], "reset", id="ended by RST"),
        pytest.param(
            [*OPENED, there(FIN | ACK), back(FIN | ACK), there(RST)],
            "established",
            id="RST after both said FIN",
        ),
        pytest.param(list(OPENED[:2]), "unanswered", id="the answer was not answered"),
        pytest.param([there(ACK, b"x"), back(ACK, b"y")], "established", id="caught midway"),
        pytest.param([there(ACK, b"x")], "one-way", id="only one end"),
    ],
)
def test_how_a_connection_went(packets, state):
    (flow,) = flows(*packets)
    assert flow.state == state


@pytest.mark.parametrize(
    "packets, client, direction",
    [
        pytest.param([there(SYN)], A, "seen", id="SYN"),
        pytest.param([back(SYN | ACK)], A, "seen", id="SYN+ACK alone"),
        pytest.param([back(SYN | ACK), there(SYN)], A, "seen", id="captured in the wrong order"),
        pytest.param([back(ACK, b"x"), there(ACK, b"y")], B, "guessed", id="first packet"),
    ],
)
def test_who_is_the_client(packets, client, direction):
    (flow,) = flows(*packets)
    assert (flow.client.address, flow.direction) == (client, direction)


def test_a_new_connection_on_the_same_ports_is_a_new_flow():
    """Another initial sequence number, after the first connection ended."""
    closing = (there(FIN | ACK, seq=100), back(FIN | ACK, seq=500))
    again = (there(SYN, seq=7777), back(SYN | ACK, seq=8888), there(ACK, seq=7778))
    first, second = flows(*OPENED, *closing, *again)
    assert (first.client_packets, second.client_packets) == (3, 2)


def test_a_repeated_syn_is_no_new_flow():
    (flow,) = flows(OPENED[0], OPENED[0], *OPENED[1:])
    assert flow.client_packets == 3


def test_idle_time_never_splits():
    frames = [ethernet(packet) for packet in (*OPENED, there(ACK, b"x", seq=100))]
    data = bytearray(pcap(frames))
    last = len(data) - len(frames[-1]) - 16
    data[last : last + 4] = struct.pack("<I", 1_700_900_000)
    assert len(list(reading(bytes(data)).flows())) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_segments_out_of_order_are_put_in_order(order):
    request = b"GET /a HTTP/1.1\r\nHost: web.shop\r\n\r\n"
    pieces = [(100, request[:10]), (110, request[10:20]), (120, request[20:])]
    segments = [there(ACK, pieces[n][1], seq=pieces[n][0]) for n in order]
    (flow,) = flows(*OPENED, *segments)
    assert flow.application == "http"


def test_retransmitted_and_overlapping_segments_count_once():
    request = b"GET /a HTTP/1.1\r\nHost: web.shop\r\n\r\n"
    (flow,) = flows(
        *OPENED,
        there(ACK, request[:8], seq=100),
        there(ACK, request[:12], seq=100),
        there(ACK, request[4:], seq=104),
    )
    assert flow.application == "http"


def test_sequence_numbers_may_wrap():
    request = b"GET /a HTTP/1.1\r\nHost: web.shop\r\n\r\n"
    begin = 0xFFFFFFF0
    (flow,) = flows(
        there(SYN, seq=begin),
        there(ACK, request[:20], seq=(begin + 1) & 0xFFFFFFFF),
        there(ACK, request[20:], seq=(begin + 21) & 0xFFFFFFFF),
    )
    assert flow.application == "http"


def test_ethernet_padding_is_no_payload():
    """Frames are padded to 60 bytes; the IP header knows better."""
    frame = ethernet(ip(A, B, 17, udp(1, 2, b"x")))
    (flow,) = reading(pcap([frame.ljust(60, b"\0")])).flows()
    assert (flow.client_bytes, flow.client_payload_bytes) == (29, 1)


def test_a_length_of_zero_is_segmentation_offload():
    """Linux hands captures packets whose length is written later; the frame's then counts."""
    packet = bytearray(there(ACK, bytes(3000)))
    packet[2:4] = b"\0\0"
    (flow,) = flows(bytes(packet))
    assert (flow.client_bytes, flow.client_payload_bytes) == (3040, 3000)


@pytest.mark.parametrize("tags, vlan", [((), ()), ((7,), (7,)), ((0x6064, 200), (100, 200))])
def test_vlan_tags_are_told_outermost_first(tags, vlan):
    (flow,) = reading(pcap([ethernet(there(SYN), *tags)])).flows()
    assert flow.vlan == vlan


@pytest.mark.parametrize(
    "link, prefix",
    [
        pytest.param(1, bytes(12) + b"\x08\x00", id="Ethernet"),
        pytest.param(113, bytes(14) + b"\x08\x00", id="Linux cooked"),
        pytest.param(276, b"\x08\x00" + bytes(18), id="Linux cooked 2"),
        pytest.param(101, b"", id="raw IP"),
        pytest.param(228, b"", id="raw IPv4"),
        pytest.param(0, b"\x02\0\0\0", id="null, little"),
        pytest.param(0, b"\0\0\0\x02", id="null, big"),
        pytest.param(108, b"\0\0\0\x02", id="loopback"),
    ],
)
@pytest.mark.parametrize("write", [pcap, pcapng])
def test_link_types(link, prefix, write):
    (flow,) = reading(write([prefix + there(SYN)], link=link)).flows()
    assert (flow.client.address, flow.client_bytes) == (A, 40)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_byte_orders_and_resolutions_of_pcap(order, nano):
    (flow,) = reading(pcap([ethernet(there(SYN))], order=order, nano=nano)).flows()
    assert flow.first_seen == 1_700_000_000 * 10**9 + (1 if nano else 1000)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("unit, expected", [(None, 1000), (9, 1), (3, 1_000_000)])
def test_byte_orders_and_resolutions_of_pcapng(order, unit, expected):
    (flow,) = reading(pcapng([ethernet(there(SYN))], order=order, unit=unit)).flows()
    assert flow.first_seen == 1_700_000_000 * 10**9 + expected


def test_pcapng_blocks_that_are_not_packets_are_skipped():
    data = pcapng([ethernet(there(SYN))]) + block(5, bytes(20)) + block(0x0BAD, b"own")
    result = reading(data)
    assert (result.frames, result.damage) == (1, None)


def test_ip_options_and_extension_headers():
    four = ip(A, B, 6, tcp(1, 2, SYN), options=b"\x01" * 8)
    hop = b"\x06\x00" + bytes(6)
    six = ip(A6, B6, 0, hop + tcp(3, 4, SYN))
    first, second = flows(four, six)
    assert (first.client.port, first.client_bytes, first.state) == (1, 48, "unanswered")
    assert (second.client.port, second.client_bytes, second.state) == (3, 68, "unanswered")


def test_fragments_count_to_the_flow_of_the_first_one():
    first = bytearray(ip(A, B, 17, udp(10, 20, bytes(16))))
    first[6:8] = b"\x20\x00"
    later = bytearray(ip(A, B, 17, bytes(24)))
    later[6:8] = b"\x00\x03"
    (flow,) = flows(bytes(first), bytes(later))
    assert (flow.client.port, flow.client_packets) == (10, 2)


def test_a_fragment_without_its_first_has_no_ports():
    later = bytearray(ip(A, B, 17, bytes(24)))
    later[6:8] = b"\x00\x03"
    (flow,) = flows(bytes(later))
    assert (flow.protocol, flow.client.port, flow.server.port) == ("udp", None, None)


def test_echo_requests_are_conversations_by_identifier_without_ports():
    ask, answer = b"\x08\0\0\0\x12\x34\0\x01", b"\0\0\0\0\x12\x34\0\x01"
    other = b"\x08\0\0\0\x99\x99\0\x01"
    first, second = flows(ip(B, A, 1, answer), ip(A, B, 1, ask), ip(A, B, 1, other))
    assert (first.client.address, first.client.port, first.direction) == (A, None, "seen")
    assert (first.state, second.state) == ("established", "one-way")


def test_other_protocols_are_named_or_numbered():
    esp, odd = flows(ip(A, B, 50, bytes(20)), ip(A, B, 253, bytes(20)))
    assert (esp.protocol, esp.server.port, odd.protocol) == ("esp", None, "253")


def test_ipv4_and_ipv6_are_never_one_flow():
    mapped = ip("::ffff:198.18.0.1", "::ffff:198.18.0.2", 17, udp(1, 2))
    assert len(flows(ip(A, B, 17, udp(1, 2)), mapped)) == 2


def test_packets_that_are_cut_short_still_count():
    frame = ethernet(there(ACK, bytes(1000)))
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 40, 1)
    data += struct.pack("<IIII", 1, 2, 40, len(frame)) + frame[:40]
    (flow,) = reading(data).flows()
    assert (flow.client.port, flow.client_bytes) == (4000, 1040)


def claiming(more: int, checksum: int, *, options: bytes = b"") -> bytes:
    """A packet whose header says that it is longer by so much."""
    packet = bytearray(ip(A, B, 6, tcp(4000, 80, ACK), options=options))
    packet[2:4] = struct.pack(">H", len(packet) + more)
    packet[10:12] = struct.pack(">H", checksum)
    if checksum == 1:
        packet[10:12] = bytes(2)
        total = sum(struct.unpack(f">{10 + len(options) // 2}H", packet[: 20 + len(options)]))
        packet[10:12] = struct.pack(">H", ~(total % 0xFFFF) & 0xFFFF)
    return bytes(packet)


@pytest.mark.parametrize("options", [b"", b"\x01\x01\x01\x00"], ids=["regular", "options"])
@pytest.mark.parametrize(
    "more, checksum, counted",
    [
        pytest.param(0, 7, True, id="checksum wrong: left to the hardware"),
        pytest.param(500, 1, True, id="length wrong: cut off by a tool that forgot it"),
        pytest.param(500, 0, True, id="length wrong, checksum never reckoned"),
        pytest.param(500, 7, False, id="both wrong: damaged"),
    ],
)
def test_a_header_that_is_damaged_makes_no_flow_and_is_counted(options, more, checksum, counted):
    result = reading(pcap([ethernet(claiming(more, checksum, options=options))]))
    assert len(list(result.flows())) == counted
    assert result.losses() == ({} if counted else {"damaged": 1})


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_what_comes_before_damage_is_read(write):
    whole = write([ethernet(packet) for packet in OPENED])
    result = reading(whole[:-7])
    assert len(list(result.flows())) == 1
    assert result.packets == 2
    assert "ends" in result.damage


def test_a_length_that_can_not_be_is_damage():
    good = pcap([ethernet(there(SYN))])
    result = reading(good + struct.pack("<IIII", 1, 1, 0x7FFFFFFF, 1) + bytes(99))
    assert (result.packets, result.damage) == (
        1,
        "packet 2 claims 2147483647 bytes, more than any packet has",
    )


@pytest.mark.parametrize("data", [b"", b"hello, world", b"(\xb5/\xfd", pcap([])[:10]])
def test_what_is_no_capture_is_refused(data):
    with pytest.raises(NetwatchError, match="no capture"):
        reading(data)


def test_a_capture_whose_first_packet_is_damaged_is_refused():
    with pytest.raises(NetwatchError, match="no readable packet"):
        reading(pcap([ethernet(there(SYN))])[:-3])


def test_an_empty_capture_has_no_flows():
    assert list(reading(pcap([])).flows()) == []


def test_frames_that_are_not_ip_are_counted_and_make_no_flow():
    result = reading(pcap([bytes(12) + b"\x08\x06" + bytes(28), ethernet(there(SYN))]))
    assert (result.frames, result.packets, len(list(result.flows()))) == (2, 1, 1)

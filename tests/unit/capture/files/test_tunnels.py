"""What travels in tunnels is told by its own ends, with the tunnels around it."""

from __future__ import annotations

import random
import struct

import pytest

from tests.unit.capture.files.captures import (
    ACK,
    SYN,
    ethernet,
    flows,
    ip,
    pcap,
    reading,
    tcp,
    udp,
)

A, B = "198.18.0.1", "198.18.0.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
OUT, IN = "192.0.2.1", "192.0.2.2"
OUT6, IN6 = "2001:db8:f::1", "2001:db8:f::2"
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

INNER = ip(A, B, 6, tcp(4000, 80, ACK, REQUEST))
INNER6 = ip(A6, B6, 6, tcp(4000, 80, ACK, REQUEST))


def vxlan(number: int) -> bytes:
    return b"\x08\0\0\0" + number.to_bytes(3, "big") + b"\0"


def geneve(number: int, kind: int, options: bytes = b"") -> bytes:
    return (
        struct.pack(">BBH", len(options) // 4, 0, kind)
        + number.to_bytes(3, "big")
        + b"\0"
        + options
    )


def over_udp(port: int, body: bytes, *, source: str = OUT, target: str = IN) -> bytes:
    return ip(source, target, 17, udp(50000, port, body))


@pytest.mark.parametrize(
    "packet, kind, number",
    [
        pytest.param(over_udp(4789, vxlan(42) + ethernet(INNER)), "vxlan", 42, id="VXLAN"),
        pytest.param(over_udp(8472, vxlan(7) + ethernet(INNER)), "vxlan", 7, id="VXLAN of Linux"),
        pytest.param(
            over_udp(6081, geneve(9, 0x6558, bytes(8)) + ethernet(INNER)), "geneve", 9, id="Geneve"
        ),
        pytest.param(over_udp(6081, geneve(9, 0x0800) + INNER), "geneve", 9, id="Geneve with IP"),
        pytest.param(
            over_udp(2152, b"\x30\xff" + struct.pack(">HI", len(INNER), 77) + INNER),
            "gtp",
            77,
            id="GTP-U",
        ),
        pytest.param(
            over_udp(
                2152,
                b"\x34\xff"
                + struct.pack(">HI", 8 + len(INNER), 77)
                + b"\0\0\0\x85\x01\0\0\0"
                + INNER,
            ),
            "gtp",
            77,
            id="GTP-U with an extension",
        ),
        pytest.param(ip(OUT, IN, 47, b"\0\0\x08\0" + INNER), "gre", None, id="GRE"),
        pytest.param(
            ip(OUT, IN, 47, b"\xb0\0\x08\0\0\0\0\0\0\0\0\x05\0\0\0\1" + INNER),
            "gre",
            5,
            id="GRE with all fields",
        ),
        pytest.param(
            ip(OUT, IN, 47, b"\x20\0\x65\x58\0\0\x07\0" + ethernet(INNER)),
            "gre",
            0x700,
            id="NVGRE",
        ),
        pytest.param(
            ip(OUT, IN, 47, b"\x10\0\x88\xbe\0\0\0\1\x10\0\0\x09\0\0\0\0" + ethernet(INNER)),
            "erspan",
            9,
            id="ERSPAN II",
        ),
        pytest.param(ip(OUT, IN, 4, INNER), "ipip", None, id="4in4"),
    ],
)
def test_only_the_inner_flow_is_told_and_the_tunnel_with_it(packet, kind, number):
    (flow,) = flows(packet)
    assert (flow.client.address, flow.client.port, flow.server.port) == (A, 4000, 80)
    assert (flow.application, flow.client_bytes) == ("http", len(INNER))
    (tunnel,) = flow.tunnel
    assert (tunnel.type, tunnel.id, tunnel.client, tunnel.server) == (kind, number, OUT, IN)


@pytest.mark.parametrize(
    "outer, inner, ends",
    [
        pytest.param((OUT, IN, 41), INNER6, (A6, B6), id="6in4"),
        pytest.param((OUT6, IN6, 41), INNER6, (A6, B6), id="6in6"),
        pytest.param((OUT6, IN6, 4), INNER, (A, B), id="4in6"),
    ],
)
def test_either_version_travels_in_either(outer, inner, ends):
    source, target, protocol = outer
    (flow,) = flows(ip(source, target, protocol, inner))
    assert (flow.client.address, flow.server.address) == ends
    assert [(t.client, t.server) for t in flow.tunnel] == [(source, target)]


def test_both_directions_are_one_flow():
    """The answer's outer ends are the other way round, and its client is not the sender."""
    answer = ip(B, A, 6, tcp(80, 4000, ACK, b"HTTP/1.1 200 OK\r\n\r\n"))
    (flow,) = flows(
        over_udp(4789, vxlan(1) + ethernet(INNER)),
        over_udp(4789, vxlan(1) + ethernet(answer), source=IN, target=OUT),
    )
    assert (flow.client_packets, flow.server_packets) == (1, 1)
    assert [(t.client, t.server) for t in flow.tunnel] == [(OUT, IN)]


def test_equal_flows_in_different_networks_are_two():
    one, other = flows(
        *(over_udp(4789, vxlan(number) + ethernet(INNER)) for number in (1, 2)),
    )
    assert [t.id for t in (*one.tunnel, *other.tunnel)] == [1, 2]


def test_tunnels_in_tunnels_are_told_outermost_first():
    (flow,) = flows(over_udp(4789, vxlan(3) + ethernet(ip(OUT6, IN6, 4, INNER), 12)))
    assert [(t.type, t.client) for t in flow.tunnel] == [("vxlan", OUT), ("ipip", OUT6)]
    assert flow.vlan == (12,)


@pytest.mark.parametrize(
    "prefix, kind, number",
    [
        pytest.param(b"\x88\x47\x00\x06\x41\x40", "mpls", 100, id="MPLS"),
        pytest.param(b"\x88\x47\x00\x06\x40\x40\x00\x0c\x81\x40", "mpls", 200, id="two labels"),
        pytest.param(b"\x88\x64\x11\x00\x00\x21\x00\x99\x00\x21", "pppoe", 33, id="PPPoE"),
    ],
)
def test_labels_and_sessions_between_neighbours_have_no_ends(prefix, kind, number):
    (flow,) = reading(pcap([bytes(12) + prefix + INNER])).flows()
    assert [(t.type, t.id, t.client, t.server) for t in flow.tunnel] == [
        (kind, number, None, None)
    ]
    assert flow.application == "http"


def test_more_than_two_tags_are_told():
    (flow,) = reading(pcap([ethernet(INNER, 1, 2, 3)])).flows()
    assert flow.vlan == (1, 2, 3)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(over_udp(4789, b"\0\0\0\0\0\0\0\0" + ethernet(INNER)), id="no VNI flag"),
        pytest.param(over_udp(4789, vxlan(1) + bytes(12) + b"\x08\x06" + bytes(28)), id="ARP"),
        pytest.param(
            over_udp(6081, b"\x80\0\x08\0\0\0\0\0" + INNER), id="Geneve of a later version"
        ),
        pytest.param(over_udp(4789, b"short"), id="too short"),
        pytest.param(over_udp(4789, vxlan(1) + ethernet(INNER)[:20]), id="cut off"),
    ],
)
def test_what_is_no_packet_is_the_payload_of_the_outer_flow(packet):
    (flow,) = flows(packet)
    assert (flow.client.address, flow.protocol, flow.tunnel) == (OUT, "udp", ())
    assert flow.client_bytes == len(packet)


def fragments(packet: bytes, size: int) -> list[bytes]:
    head, body = packet[:20], packet[20:]
    found = []
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        more = 0x2000 if at + size < len(body) else 0
        made = bytearray(head + piece)
        made[2:4] = struct.pack(">H", len(made))
        made[6:8] = struct.pack(">H", more | at // 8)
        found.append(bytes(made))
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_fragments_are_put_together_for_their_payload(order):
    """A DNS question of which the first fragment holds four bytes besides the ports."""
    question = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x03www\x04shop\x00\x00\x01\x00\x01"
    pieces = fragments(ip(A, B, 17, udp(5000, 53, question)), 16)
    assert len(pieces) == 3
    (flow,) = flows(*(pieces[n] for n in order))
    assert (flow.client_packets, flow.client.port, flow.application) == (3, 5000, "dns")


def test_a_fragmented_tunnel_counts_its_packet_once():
    (flow,) = flows(*fragments(over_udp(4789, vxlan(1) + ethernet(INNER)), 80))
    assert (flow.client_packets, flow.client_bytes, flow.client.address) == (1, len(INNER), A)


def test_a_fragment_that_is_whole_is_none():
    """RFC 6946: IPv6 may carry a fragment header with neither offset nor more to come."""
    header = b"\x06\0\0\0\0\0\0\1"
    (flow,) = flows(ip(A6, B6, 44, header + tcp(4000, 80, SYN)))
    assert (flow.client.port, flow.state) == (4000, "unanswered")


def overlaid(draw: random.Random, options: bytes) -> bytes:
    """A frame of an overlay network; equal draws differ by the options of the outer header."""
    six, turned = draw.random() < 0.3, draw.random() < 0.5
    ends = ((A6, B6) if six else (A, B))[:: -1 if turned else 1]
    protocol = draw.choice((6, 17, 58 if six else 1, 132))
    ports = draw.choice((4000, 4001)), draw.choice((80, 4789))
    ports = ports[::-1] if turned else ports
    if protocol == 6:
        body = tcp(*ports, draw.choice((SYN, ACK)), REQUEST[: draw.randrange(30)])
    else:
        body = (
            udp(*ports, REQUEST) if protocol == 17 else draw.choice((b"\x08\0\0\0", b"\x80\0\0\0"))
        )
        body += bytes(20)
    packet = ip(
        *ends, protocol, body, options=b"" if six else draw.choice((b"", b"", b"\1\1\1\0"))
    )
    tags = draw.choice(((), (), (5,)))
    inside = ethernet(packet, *tags) if draw.random() < 0.9 else draw.randbytes(80)
    outer = (OUT, IN)[:: draw.choice((1, -1))]
    number = draw.choice((1, 2))
    port, head = draw.choice(
        (
            (4789, vxlan(number)),
            (8472, vxlan(number)),
            (4789, b"\0\0\0\0" + bytes(4)),
            (6081, geneve(number, 0x6558)),
            (6081, geneve(number, 0x6558, bytes(8))),
            (6081, geneve(number, 0x0800)),
        )
    )
    whole = ip(*outer, 17, udp(50000, port, head + inside), options=options)
    cut = draw.choice(
        (len(whole) - len(options), len(whole) - len(options), draw.randrange(60, 140))
    )
    return ethernet(whole[: cut + len(options)], *draw.choice(((), (), (7,), (7, 8))))


def test_what_is_read_at_once_is_what_is_read_one_by_one():
    """Options in the outer header, which change nothing, send a packet the slow way."""
    quick, slow = (
        list(reading(pcap([overlaid(draw, options) for _ in range(1500)])).flows())
        for draw, options in ((random.Random(5), b""), (random.Random(5), b"\1\1\1\0"))
    )
    within = [flow for flow in quick if flow.tunnel]
    assert within == [flow for flow in slow if flow.tunnel]
    assert len(within) > 50
    assert len(quick) == len(slow)

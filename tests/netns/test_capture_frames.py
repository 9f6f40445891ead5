"""Frames of every kind: understood, left out, or counted as malformed; nothing in between."""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
import pytest

from netwatch.capture.sensor import Batch
from netwatch.kernel.namespaces import inside, path_of_name
from tests.netns.bridges import (
    A6,
    A,
    B,
    Net,
    lost,
    mapped,
    of,
    udp,
    until,
    watching,
)

pytestmark = pytest.mark.netns


def frame(kind: int, packet: bytes, tags: bytes = b"") -> bytes:
    return b"\2" * 6 + b"\4" * 6 + tags + struct.pack("!H", kind) + packet


def ipv4(protocol: int, rest: bytes, *, options: bytes = b"", length: int = 0) -> bytes:
    words = 5 + len(options) // 4
    total = length or words * 4 + len(rest)
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, total, 1, 0, 64, protocol, 0)
    return head + socket.inet_aton(A) + socket.inet_aton("203.0.113.9") + options + rest


def ipv6(following: int, rest: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(rest), following, 64)
    return head + mapped(A6) + mapped("2001:db8:ffff::9") + rest


UDP = struct.pack("!HHHH", 7001, 7002, 12, 0) + b"data"
EXTENSION = bytes(8)


@pytest.mark.parametrize(
    ("sent", "ports", "size"),
    [
        pytest.param(frame(0x800, ipv4(17, UDP)), (7001, 7002), 32, id="plain"),
        pytest.param(
            frame(0x800, ipv4(17, UDP, options=b"\1" * 8)), (7001, 7002), 40, id="IPv4 options"
        ),
        pytest.param(
            frame(0x800, ipv4(17, UDP), b"\x81\0\0\x2a"), (7001, 7002), 32, id="VLAN tag"
        ),
        pytest.param(
            frame(0x800, ipv4(17, UDP), b"\x88\xa8\0\7\x81\0\0\x2a"), (7001, 7002), 32, id="QinQ"
        ),
        pytest.param(frame(0x800, ipv4(17, UDP) + bytes(14)), (7001, 7002), 32, id="padding"),
        pytest.param(
            frame(0x86DD, ipv6(0, b"\x3c" + EXTENSION[1:] + b"\x11" + EXTENSION[1:] + UDP)),
            (7001, 7002),
            68,
            id="two extension headers",
        ),
        pytest.param(frame(0x800, ipv4(132, UDP)), (7001, 7002), 32, id="SCTP"),
        pytest.param(frame(0x800, ipv4(50, UDP)), (0, 0), 32, id="ESP"),
        pytest.param(frame(0x800, ipv4(1, b"\x08" + bytes(7))), (0, 0), 28, id="ICMP echo"),
        pytest.param(frame(0x86DD, ipv6(58, b"\x80" + bytes(7))), (0, 0), 48, id="ICMPv6 echo"),
    ],
)
def test_frames_of_every_kind_are_understood(
    net: Net, sent: bytes, ports: tuple[int, int], size: int
) -> None:
    batch = after_frame(net, sent)
    (entry,) = from_a(batch)
    assert (entry["low_port"], entry["high_port"]) in (ports, ports[::-1])
    assert (entry["packets"].sum(), entry["bytes"].sum()) == (1, size)
    assert lost(batch) == {}


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(frame(0x86DD, ipv6(58, b"\x87" + bytes(23))), None, id="neighbour discovery"),
        pytest.param(frame(0x86DD, ipv6(58, b"\x8f" + bytes(23))), None, id="MLD"),
        pytest.param(frame(0x88CC, bytes(40)), None, id="no IP"),
        pytest.param(frame(0x800, b"\x45" + bytes(9)), "malformed", id="cut IPv4 header"),
        pytest.param(frame(0x800, b"\x65" + bytes(40)), "malformed", id="wrong version"),
        pytest.param(frame(0x800, ipv4(17, b"\x1b")), "malformed", id="cut UDP header"),
        pytest.param(frame(0x800, ipv4(6, bytes(20))), "malformed", id="TCP length 0"),
        pytest.param(frame(0x800, ipv4(17, UDP, length=900)), "malformed", id="claims more"),
        pytest.param(
            frame(0x86DD, ipv6(60, (b"\x3c" + EXTENSION[1:]) * 12)), "malformed", id="long chain"
        ),
    ],
)
def test_what_is_no_packet_of_an_edge_is_left_out_or_counted_as_malformed(
    net: Net, sent: bytes, reason: str | None
) -> None:
    batch = after_frame(net, sent)
    assert len(from_a(batch)) == 0
    assert lost(batch) == ({reason: 1} if reason else {})


def after_frame(net: Net, sent: bytes) -> Batch:
    """What was seen after a frame, and a datagram that proves that it has passed."""
    with (
        watching(net, "tcx") as sensor,
        udp("nwt-a", A) as client,
        udp("nwt-b", B, 5013) as server,
        inside(
            path_of_name("nwt-a"), lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        ) as raw,
    ):
        raw.bind(("eth0", 0))
        raw.send(sent)
        client.sendto(b"passed", (B, 5013))
        assert server.recv(100)
        return until(sensor, lambda batch: len(of(batch.entries, 5013)) == 1)


def from_a(batch: Batch) -> Any:
    """Entries of the two addresses that only hand-made frames go to."""
    odd = [np.void(mapped("203.0.113.9")), np.void(mapped("2001:db8:ffff::9"))]
    entries = batch.entries
    return entries[np.isin(entries["low"], odd) | np.isin(entries["high"], odd)]

"""Stretches of connections are joined by their keys; hashes only say where to look."""

from __future__ import annotations

import numpy as np
import pytest

from netwatch.capture.files.rows import ROW, merge
from tests.unit.capture.files.captures import SYN, ethernet, ip, pcap, reading, tcp, udp

HASH = 0x1234_5678_9ABC_DEF0


def stretches(*keys: tuple[int, int]):
    """Rows of (hash, address), a packet each, in the order of the file."""
    rows = np.zeros(len(keys), dtype=ROW)
    rows["hash"], rows["low_1"] = zip(*keys, strict=True)
    rows["index"] = np.arange(len(keys)) * 10
    rows["packets"][:, 0] = 1
    rows["opener"] = -1
    return rows


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(HASH, id="the same hash"),
        pytest.param(HASH ^ 1, id="a hash that differs in its last bit"),
        pytest.param(HASH ^ 1 << 63, id="a hash that differs in its first bit"),
    ],
)
def test_connections_that_alternate_stay_apart(other):
    rows = stretches((HASH, 1), (other, 2), (HASH, 1), (other, 2), (HASH, 1))
    merged, number = merge(rows)
    assert merged["low_1"].tolist() == [1, 2]
    assert merged["packets"].tolist() == [[3, 0], [2, 0]]
    assert number.tolist() == [0, 1, 0, 1, 0]


def test_connections_come_in_the_order_of_their_first_packets():
    rows = stretches((7, 1), (5, 2), (9, 3), (5, 2), (1, 4))
    turned = rows[[4, 0, 1, 3, 2]]
    merged, number = merge(turned)
    assert merged["index"].tolist() == [0, 10, 20, 40]
    assert merged["low_1"].tolist() == [1, 2, 3, 4]
    assert number.tolist() == [3, 0, 1, 1, 2]


def test_nothing_has_no_connections():
    merged, number = merge(np.zeros(0, dtype=ROW))
    assert (len(merged), len(number)) == (0, 0)


def test_joining_again_changes_nothing():
    once, _ = merge(stretches((3, 1), (HASH, 2), (3, 1), (HASH, 4), (HASH, 2)))
    again, number = merge(once)
    assert again.tobytes() == once.tobytes()
    assert number.tolist() == [0, 1, 2]


def crowd() -> list[bytes]:
    """More conversations than the bits by which a chunk is sorted can tell apart, interleaved."""
    one = [
        ip(f"10.{number >> 8}.{number & 255}.1", "10.0.0.2", 17, udp(1000, 53))
        for number in range(1500)
    ]
    return [ethernet(packet) for packet in one * 2]


def test_every_conversation_of_a_crowd_is_counted_once():
    found = list(reading(pcap(crowd())).flows())
    assert len(found) == 1500
    assert {flow.client_packets for flow in found} == {2}
    assert [flow.client.address for flow in found[:2]] == ["10.0.0.1", "10.0.1.1"]


def test_times_that_run_backwards_are_those_of_the_flow():
    """Captures of several queues are not in the order of time."""
    packets = [
        ip("10.0.0.1", "10.0.0.2", 6, tcp(1000, 80, SYN, seq=7)),
        ip("10.0.0.1", "10.0.0.2", 6, tcp(1000, 80, 16, b"x", seq=8)),
        ip("10.0.0.1", "10.0.0.2", 6, tcp(1000, 80, 16, b"y", seq=9)),
    ]
    data = bytearray(pcap([ethernet(packet) for packet in packets]))
    size = 16 + len(ethernet(packets[1]))
    second = 24 + 16 + len(ethernet(packets[0]))
    for at, micros in ((24, 500), (second, 900), (second + size, 100)):
        data[at + 4 : at + 8] = micros.to_bytes(4, "little")
    (flow,) = reading(bytes(data)).flows()
    assert (flow.last_seen - flow.first_seen) == 800_000

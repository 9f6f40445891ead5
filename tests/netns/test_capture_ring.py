"""The ring of a capture: nothing slips in, nothing is lost uncounted, and it knows when to end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netwatch.capture.packets import RECORD, CaptureRefused, Tap
from netwatch.capture.packets_filter import compiled
from netwatch.kernel.namespaces import socket_inside
from tests.netns.bridges import A, B, C, Net, ip, udp, v4

pytestmark = pytest.mark.netns

RING_BYTES = 8 << 20


@contextmanager
def tapping(net: Net, *links: str, words: str = "udp port 9") -> Iterator[Tap]:
    tap = Tap(links, compiled(words), namespace=net.path)
    try:
        yield tap
    finally:
        tap.close()


def never() -> bool:
    return False


def send(count: int, size: int, *, name: str = "nwt-a", source: str = A, target: str = B) -> None:
    with udp(name, source) as sender:
        for _ in range(count):
            sender.sendto(bytes(size), (target, 9))


@pytest.fixture
def listening(net: Net) -> Iterator[None]:
    """Somebody at both ends, so that no refusal answers."""
    with udp("nwt-b", B, 9), udp("nwt-c", C, 9):
        yield


def test_what_finds_no_room_is_counted_to_the_packet(net: Net, listening: None) -> None:
    """Nobody reads while three times the ring is sent: recorded + lost = sent, some are lost."""
    sent = 3 * RING_BYTES // 1400
    with tapping(net, "hnwt-a") as tap:
        send(sent, 1400)
        recorded = sum(len(records) for records in tap.batches(0.2, never))
        lost = tap.lost()
    assert lost > sent // 3
    assert recorded + lost == sent


def test_several_links_are_one_capture_each_packet_once_a_link(net: Net, listening: None) -> None:
    """A workload with two networks has two links; frames are whole, times those of the kernel."""
    before = time.clock_gettime(time.CLOCK_REALTIME)
    with tapping(net, "hnwt-a", "hnwt-c") as tap:
        send(50, 100)
        send(30, 100, target=C)
        records = [record for batch in tap.batches(0.2, never) for record in batch]
        assert (tap.lost(), tap.links) == (0, ("hnwt-a", "hnwt-c"))
    assert len(records) == 50 + 30 + 30  # what goes to the other bridge passes both
    for record in records:
        seconds, parts, captured, wire = RECORD.unpack_from(record)
        assert captured == wire == len(record) - RECORD.size == 14 + 20 + 8 + 100
        assert before - 1 <= seconds + parts / 1e9 <= time.clock_gettime(time.CLOCK_REALTIME) + 1


def test_the_last_packets_before_the_end_are_there(net: Net, listening: None) -> None:
    """Blocks that are not full are waited for; packets after the end are not taken."""
    with tapping(net, "hnwt-a") as tap:
        send(7, 10)
        batches = tap.batches(60.0, lambda: True)
        assert sum(len(records) for records in batches) == 7
        send(5, 10)
        assert sum(len(records) for records in tap.batches(0.1, never)) == 0


def test_a_link_that_goes_ends_the_capture_with_what_it_had(net: Net, listening: None) -> None:
    """Long before its time."""
    ip("link", "add", "gone", "type", "veth", "peer", "name", "gone-peer")
    for end in ("gone", "gone-peer"):
        ip("link", "set", end, "up")
    begun = time.monotonic()
    with tapping(net, "gone", words="") as tap:
        with socket_inside(net.path, socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("gone-peer", 0))
            for _ in range(3):
                sender.send(b"\xff" * 6 + bytes(6) + b"\x88\xb5" + b"netwatch" * 8)
        ip("link", "del", "gone")
        records = [record for batch in tap.batches(30.0, never) for record in batch]
        assert tap.gone
    assert sum(record.endswith(b"netwatch" * 8) for record in records) == 3
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("links", "words"),
    [
        pytest.param(("nowhere",), "nowhere", id="no such link"),
        pytest.param((), "no Ethernet link", id="no link at all"),
        pytest.param(tuple(map(str, range(33))), "too many", id="too many"),
    ],
)
def test_what_can_not_be_captured_is_named(net: Net, links: tuple[str, ...], words: str) -> None:
    with pytest.raises(CaptureRefused, match=words):
        Tap(links, compiled(""), namespace=net.path)


def test_a_tunnel_without_ethernet_frames_is_left_out_and_named(net: Net) -> None:
    ip("tuntap", "add", "tun7", "mode", "tun")
    try:
        with tapping(net, "tun7", "hnwt-a") as tap:
            assert (tap.links, tap.skipped) == (("hnwt-a",), ["tun7"])
        with pytest.raises(CaptureRefused, match="tun7"):
            Tap(["tun7"], compiled(""), namespace=net.path)
    finally:
        ip("link", "del", "tun7")


def test_nothing_is_taken_that_the_filter_does_not_describe(net: Net, listening: None) -> None:
    with tapping(net, "hnwt-a", words=f"udp and dst host {v4(1, 11)}") as tap:
        send(20, 10)
        send(4, 10, target=C)
        assert sum(len(records) for records in tap.batches(0.2, never)) == 4

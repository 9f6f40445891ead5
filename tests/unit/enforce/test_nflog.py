"""Messages of NFLOG, made as the kernel makes them, to counts; and whatever else may come."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from netwatch.enforce.netlink import attribute
from netwatch.enforce.nflog import BATCH, Tally, five
from netwatch.enforce.probed import Probed


def ipv4(
    source: str,
    target: str,
    *,
    protocol: int = 6,
    port: int = 80,
    piece: int = 0,
    near: int = 40000,
) -> bytes:
    """A header of 20 bytes and the first eight behind it; `piece` is the fragment's offset."""
    start = struct.pack("!BBHHHBBH", 0x45, 0, 60, 1, piece, 64, protocol, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return start + ends + struct.pack("!HHI", near, port, 0)


def ipv6(source: str, target: str, *, port: int = 80, options: bool = False) -> bytes:
    """With `options` a hop-by-hop header of eight bytes stands before TCP."""
    ends = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (source, target))
    more = bytes((6, 0)) + bytes(6) if options else b""
    start = struct.pack("!IHBB", 6 << 28, 20, 0 if options else 6, 64)
    return start + ends + more + struct.pack("!HHI", 40000, port, 0)


def logged(
    packet: bytes, *, prefix: str = "nw:D:0123456789", number: int = 0, sender: int = 0
) -> bytes:
    """One message as nfnetlink_log sends it: the payload is the last attribute."""
    body = b"".join(
        (
            struct.pack("=BB", 2, 0) + struct.pack("!H", 100),
            attribute(1, bytes(4)),
            attribute(10, prefix.encode() + b"\0"),
            attribute(4, bytes(4)),
            attribute(5, bytes(4)),
            attribute(6, struct.pack("!I", sender)),
            attribute(12, struct.pack("!I", number)),
            attribute(9, packet),
        )
    )
    size = 16 + len(body)
    return struct.pack("=IHHII", size, 4 << 8, 0, 0, 0) + body + bytes(-size % 4)


W, A = "198.18.1.10", "198.18.1.11"
W6, A6 = "2001:db8::1", "2001:db8::2"


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        pytest.param(ipv4(W, A), (W, A, "tcp", 80), id="IPv4 TCP"),
        pytest.param(ipv4(W, A, protocol=17, port=53), (W, A, "udp", 53), id="IPv4 UDP"),
        pytest.param(ipv4(W, A, protocol=1), (W, A, "icmp", None), id="ICMP has no port"),
        pytest.param(ipv4(W, A, piece=100), (W, A, "tcp", None), id="a later piece has none"),
        pytest.param(ipv4(W, A, protocol=99), (W, A, "99", None), id="a protocol without a name"),
        pytest.param(ipv4(W, A)[:20], (W, A, "tcp", None), id="cut after the header"),
        pytest.param(ipv6(W6, A6), (W6, A6, "tcp", 80), id="IPv6"),
        pytest.param(ipv6(W6, A6, options=True), (W6, A6, "tcp", 80), id="IPv6 with options"),
    ],
)
def test_a_message_says_who_to_whom(packet: bytes, told: tuple[object, ...]) -> None:
    tally = Tally()
    assert tally.add(logged(packet), 7) == 1
    (heard,) = tally.take()
    assert (heard.source, heard.destination, heard.protocol, heard.port) == told
    assert (heard.kind, heard.count, heard.first, heard.last) == ("denied", 1, 7, 7)


@pytest.mark.parametrize(
    ("letter", "kind"),
    [
        ("D", "denied"),
        ("A", "would-deny"),
        ("U", "unknown"),
        ("Q", "quarantined"),
        ("S", "spoofed"),
    ],
)
def test_the_prefix_says_the_kind(letter: str, kind: str) -> None:
    tally = Tally()
    tally.add(logged(ipv4(W, A), prefix=f"nw:{letter}:0123456789"), 1)
    assert [heard.kind for heard in tally.take()] == [kind]


def test_of_what_is_spoofed_the_port_is_told_that_sent_it() -> None:
    """Two ports under one address are two senders; of other kinds the port says nothing."""
    tally = Tally()
    for prefix, port in (("nw:S:spoofed", 7), ("nw:S:spoofed", 8), ("nw:D:x", 7), ("nw:D:x", 8)):
        tally.add(logged(ipv4(W, A), prefix=prefix, sender=port), 1)
    heard = {(each.kind, each.interface): (each.count, each.port) for each in tally.take()}
    assert heard == {("spoofed", 7): (1, 80), ("spoofed", 8): (1, 80), ("denied", 0): (2, 80)}


def test_a_batch_is_counted_by_what_it_says_and_taken_once() -> None:
    """Source ports make no difference; what was taken is not told again."""
    tally = Tally()
    for now in (3, 9):
        tally.add(b"".join(logged(ipv4(W, A, port=80 + n % 2)) for n in range(BATCH)), now)
    heard = {each.port: (each.count, each.first, each.last) for each in tally.take()}
    assert heard == {80: (BATCH, 3, 9), 81: (BATCH, 3, 9)}
    assert tally.take() == []


def test_what_did_not_arrive_is_counted() -> None:
    """By the kernel's own numbers, which go round after 2^32."""
    tally = Tally()
    for number in (2**32 - 2, 2**32 - 1, 0, 5):
        tally.add(logged(ipv4(W, A), number=number), 1)
    assert tally.lost == 4


def test_a_port_scan_is_bounded_and_the_rest_is_counted() -> None:
    tally = Tally(room=100)
    message = logged(ipv4(W, A))
    for number in range(110):
        address = struct.pack("!I", 0xC6120000 + number)
        tally.add(message.replace(socket.inet_aton(W), address), 1)
    assert (tally.overflow, len(tally.take())) == (10, 100)


@pytest.mark.parametrize("seed", range(20))
def test_nonsense_never_raises(seed: int) -> None:
    """Cut, turned and random bytes: counted or counted as unreadable, never an exception."""
    draw = random.Random(seed)
    tally = Tally()
    for _ in range(200):
        data = bytearray(logged(ipv4(W, A)) * 2)
        for _ in range(draw.randrange(6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        tally.add(bytes(data[: draw.randrange(len(data) + 1)]), 1)
        tally.add(draw.randbytes(draw.randrange(200)), 1)
        five(draw.randbytes(draw.randrange(60)))
    tally.take()


def test_what_the_rules_say_of_our_own_probes_is_set_aside() -> None:
    """By the recorded connection; a workload that takes such a port is heard."""
    ours = Probed("tcp", W, 61_000, A, 80)
    tally = Tally(lambda now: frozenset({ours}))
    for near in (61_000, 61_001, 40_000):
        tally.add(logged(ipv4(W, A, near=near)), 7)
    assert (tally.probes, [heard.count for heard in tally.take()]) == (1, [2])

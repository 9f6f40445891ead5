"""What the sensors count is what was sent: exactly, once, on tcx and on clsact alike."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netwatch.capture.ebpf import EbpfSensor
from netwatch.capture.libbpf import library
from netwatch.capture.open import open_sensor
from netwatch.capture.sensor import Batch, Sensor
from netwatch.kernel.commands import check, run, start
from netwatch.kernel.namespaces import inside, path_of_name

pytestmark = pytest.mark.netns

HOST = "nwt-host"
# name -> bridge (None: an uplink), IPv4 and IPv6 prefix, last number of its own address
ENDS = {"nwt-a": ("br0", 0, 11), "nwt-b": ("br0", 0, 12), "nwt-c": ("br1", 1, 11)}
METHODS = [pytest.param("tcx", id="tcx"), pytest.param("clsact", id="clsact")]
LINGER_RESET = struct.pack("ii", 1, 0)


def v4(network: int, number: int) -> str:
    return f"198.18.{network}.{number}"


def v6(network: int, number: int) -> str:
    return f"2001:db8:{network}::{number}"


A, B, C, OUT = v4(0, 11), v4(0, 12), v4(1, 11), "198.51.100.2"
A6, B6 = v6(0, 11), v6(0, 12)


def mapped(address: str) -> bytes:
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


def ip(*arguments: str, at: str = HOST) -> str:
    return check(["ip", "-n", at, *arguments])


def at(name: str, program: str, *arguments: str) -> str:
    return check(["ip", "netns", "exec", name, program, *arguments])


@dataclass
class Net:
    """A host with two bridges, three workloads and an uplink; interface indexes by peer name."""

    interface: dict[str, int] = field(default_factory=dict)

    @property
    def workloads(self) -> list[int]:
        return [self.interface[name] for name in ENDS]

    @property
    def uplinks(self) -> list[int]:
        return [self.interface["nwt-out"]]

    @property
    def path(self) -> Path:
        return path_of_name(HOST)


def build() -> Net:
    names = [HOST, "nwt-out", *ENDS]
    for name in names:
        check(["ip", "netns", "add", name])
        ip("link", "set", "lo", "up", at=name)
        at(name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
    at(HOST, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for network in (0, 1):
        ip("link", "add", f"br{network}", "type", "bridge")
        ip("link", "set", f"br{network}", "up")
        ip("addr", "add", f"{v4(network, 1)}/24", "dev", f"br{network}")
        ip("addr", "add", f"{v6(network, 1)}/64", "dev", f"br{network}", "nodad")
    for name, (bridge, network, number) in ENDS.items():
        veth(name)
        ip("link", "set", f"h{name}", "master", bridge)
        ip("addr", "add", f"{v4(network, number)}/24", "dev", "eth0", at=name)
        ip("addr", "add", f"{v6(network, number)}/64", "dev", "eth0", "nodad", at=name)
        ip("route", "add", "default", "via", v4(network, 1), at=name)
    veth("nwt-out")
    ip("addr", "add", "198.51.100.1/24", "dev", "hnwt-out")
    ip("addr", "add", f"{OUT}/24", "dev", "eth0", at="nwt-out")
    ip("route", "add", "198.18.0.0/15", "via", "198.51.100.1", at="nwt-out")
    found = inside(path_of_name(HOST), socket.if_nameindex)
    return Net({name.removeprefix("h"): index for index, name in found if name[:2] == "hn"})


def veth(name: str) -> None:
    ip("link", "add", f"h{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("link", "set", f"h{name}", "up")
    ip("link", "set", "eth0", "up", at=name)


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    names = [HOST, "nwt-out", *ENDS]
    for name in names:
        run(["ip", "netns", "del", name])
    try:
        yield build()
    finally:
        for name in names:
            run(["ip", "netns", "del", name])


@contextmanager
def watching(net: Net, method: str, *, entries: int = 4096) -> Iterator[EbpfSensor]:
    sensor = EbpfSensor(method, namespace=net.path, entries=entries, ring_bytes=1 << 20)
    try:
        sensor.watch(net.workloads, net.uplinks)
        yield sensor
    finally:
        sensor.close()


def udp(name: str, address: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = inside(path_of_name(name), lambda: socket.socket(family, socket.SOCK_DGRAM))
    opened.settimeout(5)
    opened.bind((address, port))
    return opened


@contextmanager
def serving(name: str, address: str, port: int, answer: Callable[[socket.socket], None]) -> Any:
    """Accepts in a thread until the end of the block, one connection after the other."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = inside(
        path_of_name(name), lambda: socket.create_server((address, port), family=family)
    )

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                if connection.getsockname()[1] == port and stop.is_set():
                    return
                with suppress(ConnectionResetError):
                    answer(connection)

    stop = threading.Event()
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        with connect(name, address, port):
            pass
        thread.join(5)
        listener.close()


def connect(name: str, address: str, port: int, *, source: tuple[str, int] | None = None) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = inside(path_of_name(name), lambda: socket.socket(family, socket.SOCK_STREAM))
    opened.settimeout(5)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if source:
            opened.bind(source)
        opened.connect((address, port))
    except OSError:
        opened.close()
        raise
    return opened


def answer_twice(connection: socket.socket) -> None:
    data = connection.recv(65536)
    connection.sendall(data * 2)
    connection.recv(1)


def until(sensor: Sensor, enough: Callable[[Batch], bool]) -> Batch:
    """Reads until it is enough, or for the last time after five seconds; payloads add up."""
    deadline = time.monotonic() + 5
    payloads: list[Any] = []
    translations: list[Any] = []
    while True:
        batch = sensor.read()
        payloads += batch.payloads
        translations += batch.translations
        batch = Batch(batch.entries, payloads, translations, batch.losses)
        if enough(batch) or time.monotonic() > deadline:
            return batch
        time.sleep(0.02)


def of(entries: Any, port: int) -> Any:
    return entries[(entries["low_port"] == port) | (entries["high_port"] == port)]


def settled(port: int) -> Callable[[Batch], bool]:
    """Enough once two reads show the same: what was sent before has arrived."""
    before: list[bytes] = []

    def same(batch: Batch) -> bool:
        now = of(batch.entries, port).tobytes()
        before.append(now)
        return len(before) > 4 and len({*before[-4:]}) == 1

    return same


def lost(batch: Batch) -> dict[str, int]:
    return {reason: count for reason, count in batch.losses if count}


@pytest.mark.parametrize("method", METHODS)
def test_every_tcp_connection_is_counted_once_with_its_exact_bytes(net: Net, method: str) -> None:
    """200 connections between two workloads of one bridge, half of them IPv6."""
    ports = {4: set(), 6: set()}  # type: ignore[var-annotated]
    with (
        watching(net, method) as sensor,
        serving("nwt-b", B, 8000, answer_twice),
        serving("nwt-b", B6, 8000, answer_twice),
    ):
        for family, address in ((4, B), (6, B6)):
            for _ in range(100):
                with connect("nwt-a", address, 8000) as client:
                    ports[family].add(client.getsockname()[1])
                    client.sendall(b"question!!")
                    assert len(client.recv(20, socket.MSG_WAITALL)) == 20
        batch = until(sensor, settled(8000))
    entries = of(batch.entries, 8000)
    assert int(entries["opened"].sum()) == 200
    assert (entries["low_is_client"] == 1).all()
    assert (entries["high_port"] == 8000).all()
    assert (entries["payload_bytes"] == np.multiply.outer(entries["opened"], [10, 20])).all()
    for family, low, high in ((4, A, B), (6, A6, B6)):
        mine = entries[entries["low"] == np.void(mapped(low))]
        assert set(mine["low_port"].tolist()) == ports[family]
        assert (mine["high"] == np.void(mapped(high))).all()
        header = 20 if family == 4 else 40  # of IP; TCP has 32 here and 40 in a SYN
        opened = mine["opened"][:, None].astype(np.uint64)
        expected = mine["packets"] * np.uint64(header + 32) + opened * np.uint64(8)
        assert (mine["bytes"] == expected + mine["payload_bytes"]).all()
    assert lost(batch) == {}


@pytest.mark.parametrize("method", METHODS)
def test_every_datagram_is_counted_once_wherever_it_goes(net: Net, method: str) -> None:
    """Bridged, routed between bridges, routed to and from the uplink, from the host, to the host.

    Each pair sends 200 there and 100 back; nothing is doubled by being seen on two interfaces.
    """
    ways = [
        ("nwt-a", A, "nwt-b", B, 5001),
        ("nwt-a", A6, "nwt-b", B6, 5002),
        ("nwt-a", A, "nwt-c", C, 5003),
        ("nwt-a", A, "nwt-out", OUT, 5004),
        ("nwt-out", OUT, "nwt-b", B, 5005),
        (HOST, v4(0, 1), "nwt-a", A, 5006),
        ("nwt-c", C, HOST, v4(1, 1), 5007),
        (HOST, "198.51.100.1", "nwt-out", OUT, 5008),
    ]
    with watching(net, method) as sensor:
        for source, address, target, to, port in ways:
            with udp(source, address) as client, udp(target, to, port) as server:
                for _ in range(100):
                    client.sendto(b"x" * 32, (to, port))
                    client.sendto(b"y" * 32, (to, port))
                    assert server.recv(100)
                    _, peer = server.recvfrom(100)
                    server.sendto(b"z" * 8, peer)
                    assert client.recv(100)
        batch = until(sensor, settled(5008))
    for source, address, target, to, port in ways:
        (entry,) = of(batch.entries, port)
        there = 0 if entry["low"] == np.void(mapped(address)) else 1
        header = 48 if ":" in to else 28
        label = f"{source} to {target}"
        assert entry["packets"][there] == 200, label
        assert entry["packets"][1 - there] == 100, label
        assert entry["bytes"][there] == 200 * (32 + header), label
        assert entry["bytes"][1 - there] == 100 * (8 + header), label
        seen = [0 if name == HOST else net.interface[name] for name in (source, target)]
        assert [entry["ifindex"][there], entry["ifindex"][1 - there]] == seen, label
    assert lost(batch) == {}


@pytest.mark.parametrize("method", METHODS)
def test_a_bulk_transfer_is_counted_as_it_is_on_the_wire(net: Net, method: str) -> None:
    """The workload hands over packets of up to 64 kB; the uplink, which may not, cuts them.

    Its own counters then say what the wire carried: the sensor saw the uncut ones.
    """
    at(HOST, "ethtool", "-K", "hnwt-out", "tso", "off", "gso", "off")
    size = 4_000_000
    received: list[int] = []

    def swallow(connection: socket.socket) -> None:
        total = 0
        while data := connection.recv(1 << 20):
            total += len(data)
        received.append(total)

    def counters() -> tuple[int, int]:
        text = ip("-s", "link", "show", "hnwt-out").split("TX:")[1].splitlines()[1].split()
        return int(text[0]), int(text[1])

    with watching(net, method) as sensor, serving("nwt-out", OUT, 8001, swallow):
        with connect("nwt-a", OUT, 8001) as client:  # neighbours are known from here on
            client.sendall(b"!")
        until(sensor, settled(8001))
        bytes_before, packets_before = counters()
        with connect("nwt-a", OUT, 8001) as client:
            port = client.getsockname()[1]
            client.sendall(bytes(size))
        batch = until(sensor, settled(port))
        bytes_after, packets_after = counters()
    at(HOST, "ethtool", "-K", "hnwt-out", "tso", "on", "gso", "on")
    (entry,) = of(batch.entries, port)
    assert received[1] == size
    there = 0 if entry["low"] == np.void(mapped(A)) else 1
    packets = packets_after - packets_before
    assert entry["packets"][there] == packets
    assert entry["bytes"][there] == bytes_after - bytes_before - 14 * packets
    assert entry["payload_bytes"][there] == size


@pytest.mark.parametrize("method", METHODS)
def test_the_first_payload_arrives_in_order_with_its_offsets(net: Net, method: str) -> None:
    """12 pieces or 8 kB of each direction; what follows is counted only."""

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(20):
            connection.recv(4, socket.MSG_WAITALL)
            connection.sendall(b"%03d-" % number * 250)

    with watching(net, method) as sensor, serving("nwt-b", B, 8002, talk):
        with connect("nwt-a", B, 8002) as client:
            port = client.getsockname()[1]
            for number in range(20):
                client.sendall(b"q%02d " % number)
                client.recv(1000, socket.MSG_WAITALL)
        batch = until(sensor, settled(8002))
    pieces = [piece for piece in batch.payloads if piece.low_port == port]
    asked = [piece for piece in pieces if piece.from_low]
    told = [piece for piece in pieces if not piece.from_low]
    assert [piece.offset for piece in asked] == [4 * n for n in range(12)]
    assert b"".join(piece.data for piece in asked) == b"".join(b"q%02d " % n for n in range(12))
    assert [piece.offset for piece in told] == [1000 * n for n in range(9)]
    whole = b"".join(b"%03d-" % n * 250 for n in range(20))
    assert b"".join(piece.data for piece in told) == whole[:8192]
    assert len({piece.connection for piece in pieces}) == 1
    (entry,) = of(batch.entries, port)
    assert entry["payload_bytes"].tolist() == [80, 20_000]


def test_no_payload_comes_of_a_classified_connection(net: Net) -> None:
    """But its next connection on the same ports is looked at again."""
    with watching(net, "tcx") as sensor, udp("nwt-a", A) as client, udp("nwt-b", B, 5010):
        client.sendto(b"first", (B, 5010))
        batch = until(sensor, lambda batch: len(batch.payloads) == 1)
        sensor.classified(batch.payloads[0])
        for _ in range(5):
            client.sendto(b"later", (B, 5010))
        batch = until(sensor, lambda batch: int(of(batch.entries, 5010)["packets"].sum()) == 6)
        assert batch.payloads == []
        assert int(of(batch.entries, 5010)["packets"].sum()) == 6


@pytest.mark.parametrize("method", METHODS)
def test_a_reset_that_answers_a_syn_is_a_refusal(net: Net, method: str) -> None:
    with watching(net, method) as sensor:
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                connect("nwt-a", B, 81)
        entries = until(sensor, settled(81)).entries
    entries = of(entries, 81)
    assert int(entries["opened"].sum()) == 3
    assert int(entries["refused"].sum()) == 3
    assert (entries["low_is_client"] == 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_ports_used_again_are_further_connections_of_one_entry(net: Net, method: str) -> None:
    """Five connections from one port, each ended by a reset, each with its own first payload."""
    with watching(net, method) as sensor, serving("nwt-b", B, 8003, answer_twice):
        for number in range(5):
            with connect("nwt-a", B, 8003, source=(A, 40_000)) as client:
                client.sendall(b"call %d" % number)
                assert client.recv(100)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        batch = until(sensor, settled(8003))
    (entry,) = of(batch.entries, 40_000)
    assert (entry["opened"], entry["refused"]) == (5, 0)
    asked = [p for p in batch.payloads if p.low_port == 40_000 and p.from_low]
    assert [(p.offset, p.data) for p in asked] == [(0, b"call %d" % n) for n in range(5)]
    numbers = [p.connection for p in asked]
    assert numbers == sorted(set(numbers))


def test_fragments_count_under_the_ports_of_the_first(net: Net) -> None:
    """A datagram of 4,000 bytes is three packets; only the first of them carries ports."""
    with (
        watching(net, "tcx") as sensor,
        udp("nwt-a", A) as client,
        udp("nwt-c", C, 5011) as server,
        udp("nwt-a", A6) as client6,
        udp("nwt-b", B6, 5012) as server6,
    ):
        client.sendto(bytes(4000), (C, 5011))
        client6.sendto(bytes(4000), (B6, 5012))
        assert len(server.recv(5000)) == len(server6.recv(5000)) == 4000
        batch = until(sensor, settled(5012))
    (entry,) = of(batch.entries, 5011)
    assert (entry["packets"].sum(), entry["bytes"].sum()) == (3, 4000 + 8 + 3 * 20)
    (entry,) = of(batch.entries, 5012)
    assert (entry["packets"].sum(), entry["bytes"].sum()) == (3, 4000 + 8 + 3 * 48)
    assert len(of(batch.entries, 0)) == 0
    assert lost(batch) == {}


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


@pytest.mark.parametrize("reads", [pytest.param(1, id="one read"), pytest.param(10, id="ten")])
def test_seen_and_lost_add_up_to_what_was_sent(net: Net, reads: int) -> None:
    """2,000 flows of one packet each through a map with room for 512: none is unaccounted for."""
    seen: set[bytes] = set()
    with watching(net, "tcx", entries=512) as sensor, udp("nwt-b", B, 5014):
        inside(path_of_name("nwt-a"), lambda: send_from_ports(range(10_000, 10_100)))
        for first in range(10_100, 12_000, 1900 // reads):
            ports = range(first, first + 1900 // reads)
            inside(path_of_name("nwt-a"), lambda ports=ports: send_from_ports(ports))
            batch = sensor.read()
            seen |= {entry.tobytes()[:36] for entry in of(batch.entries, 5014)}
    assert len(seen) + lost(batch).get("evicted", 0) == 2000
    assert (len(seen) < 2000) == (reads == 1)


def send_from_ports(ports: range) -> None:
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((A, port))
            client.sendto(b"x", (B, 5014))


def attached(net: Net, interface: int, *, point: int) -> int:
    """How many tcx programs an interface has (BPF_PROG_QUERY)."""

    def query() -> int:
        count = ctypes.c_uint32(8)
        programs = (ctypes.c_uint32 * 8)()
        result = library().bpf_prog_query(interface, point, 0, None, programs, ctypes.byref(count))
        return count.value if result == 0 else 0

    return inside(net.path, query)


def filters(interface: str) -> str:
    return "".join(
        check(["tc", "-n", HOST, "filter", "show", "dev", interface, point])
        for point in ("ingress", "egress")
    )


def test_closing_leaves_nothing(net: Net) -> None:
    """No program, no filter and no qdisc; a qdisc that was there before stays."""
    check(["tc", "-n", HOST, "qdisc", "add", "dev", "hnwt-b", "clsact"])
    before = check(["tc", "-n", HOST, "qdisc", "show"])
    with watching(net, "clsact"):
        assert "netwatch_in" in filters("hnwt-a")
        assert "netwatch_out" in filters("hnwt-b")
    with watching(net, "tcx"):
        assert attached(net, net.interface["nwt-a"], point=46) == 1
    assert attached(net, net.interface["nwt-a"], point=46) == 0
    assert filters("hnwt-a") == filters("hnwt-b") == ""
    assert check(["tc", "-n", HOST, "qdisc", "show"]) == before
    check(["tc", "-n", HOST, "qdisc", "del", "dev", "hnwt-b", "clsact"])


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_sensor_leaves_nothing_after_the_next_start(net: Net, method: str) -> None:
    """tcx programs are gone at once; clsact filters when the next sensor starts."""
    interface = net.interface["nwt-a"]
    script = (
        "import sys, time; from pathlib import Path;"
        "from netwatch.capture.open import open_sensor;"
        "s = open_sensor(method=sys.argv[1], namespace=Path(sys.argv[2]));"
        "s.watch([int(sys.argv[3])], []); time.sleep(60)"
    )

    def there() -> bool:
        return bool(attached(net, interface, point=46) or filters("hnwt-a"))

    child = start([sys.executable, "-c", script, method, str(net.path), str(interface)])
    wait_until(there)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    if method == "clsact":
        assert "netwatch_in" in filters("hnwt-a")
        EbpfSensor("tcx", namespace=net.path).close()
        check(["tc", "-n", HOST, "qdisc", "del", "dev", "hnwt-a", "clsact"])
    wait_until(lambda: not there())


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not come true within 10 s"
        time.sleep(0.02)


@pytest.mark.parametrize("method", METHODS)
def test_the_watched_interfaces_follow_the_call(net: Net, method: str) -> None:
    """What vanished, or never was, is no error; what is not named any longer is let go."""
    with watching(net, method) as sensor:
        ip("link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
        index = inside(net.path, lambda: socket.if_nametoindex("gone0"))
        sensor.watch([index, 999_999], net.uplinks)
        assert sensor.state().interfaces == ("gone0", "hnwt-out")
        ip("link", "del", "gone0")
        sensor.watch([index, net.interface["nwt-a"]], [])
        assert sensor.state().interfaces == ("hnwt-a",)
        sensor.watch([], [])
        assert sensor.state().interfaces == ()


@contextmanager
def tracked(*rules: str) -> Iterator[None]:
    """Conntrack with counters, and some NAT rules, on the host."""
    at(HOST, "sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1")
    at(HOST, "iptables", "-I", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID")
    for rule in rules:
        at(HOST, "iptables", "-t", "nat", *rule.split())
    try:
        yield
    finally:
        at(HOST, "iptables", "-F")
        at(HOST, "iptables", "-t", "nat", "-F")


DNAT = f"-A PREROUTING -p tcp -d 198.51.100.1 --dport 80 -j DNAT --to-destination {C}:8004"


@pytest.mark.parametrize("method", ["tcx", "clsact", "conntrack"])
def test_nat_is_told_as_a_translation(net: Net, method: str) -> None:
    """Before and after the sensor started: what the client aimed at, and what answers."""
    with (
        tracked(DNAT),
        serving("nwt-c", C, 8004, answer_twice),
        connect("nwt-out", "198.51.100.1", 80) as before,
        closing(open_sensor(method=method, namespace=net.path)) as sensor,
        connect("nwt-out", "198.51.100.1", 80) as after,
    ):
        ports = {client.getsockname()[1] for client in (before, after)}
        batch = until(sensor, lambda batch: ports <= {t.original[1] for t in batch.translations})
    found = {
        (t.protocol, t.original, t.reply) for t in batch.translations if t.original[1] in ports
    }
    aimed, real = mapped("198.51.100.1"), mapped(C)
    assert found == {
        (6, (mapped(OUT), port, aimed, 80), (real, 8004, mapped(OUT), port)) for port in ports
    }


def test_conntrack_counts_where_there_is_no_ebpf(net: Net) -> None:
    """Routed connections, each once, with the server on the right side; a refusal is one."""
    with tracked(), serving("nwt-c", C, 8005, answer_twice):
        sensor = open_sensor(method="conntrack", namespace=net.path)
        try:
            for _ in range(50):
                with connect("nwt-a", C, 8005) as client:
                    client.sendall(b"question!!")
                    assert client.recv(100)
            with pytest.raises(ConnectionRefusedError):
                connect("nwt-a", C, 82)
            batch = until(sensor, lambda batch: int(of(batch.entries, 82)["refused"].sum()) == 1)
        finally:
            sensor.close()
    entries = of(batch.entries, 8005)
    assert int(entries["opened"].sum()) == 50
    assert (entries["low"] == np.void(mapped(A))).all()
    assert (entries["low_is_client"] == 1).all()
    assert (entries["packets"] >= 4).all()
    (refused,) = of(batch.entries, 82)
    assert (refused["opened"], refused["refused"]) == (1, 1)
    assert "no payload" in (sensor.state().problem or "")


def test_a_namespace_without_conntrack_rules_is_no_problem(net: Net) -> None:
    with watching(net, "tcx") as sensor:
        assert sensor.state().problem is None
        assert "conntrack-overrun" not in lost(sensor.read())


def test_what_closed_or_fell_idle_is_forgotten_after_it_was_reported(net: Net) -> None:
    """Closed connections 5 s after their last packet, others 300 s: no loss, but an expiry."""
    second = 10**9
    with watching(net, "tcx") as sensor, serving("nwt-b", B, 8006, answer_twice):
        with connect("nwt-a", B, 8006) as client, udp("nwt-a", A) as other, udp("nwt-b", B, 5015):
            other.sendto(b"x", (B, 5015))
            client.sendall(b"question!!")
            assert client.recv(100)
            until(sensor, settled(8006))
        until(sensor, settled(8006))
        flows, now = sensor.flows, time.monotonic_ns()
        for wait, closed, idle in ((4, 1, 1), (6, 1, 1), (7, 0, 1), (301, 0, 1), (302, 0, 0)):
            entries = flows.read(now + wait * second, 0)
            assert (len(of(entries, 8006)), len(of(entries, 5015))) == (closed, idle), wait
        assert flows.expired >= 2
        assert flows.losses()["evicted"] == flows.losses()["cut-short"] == 0


CHILD = """
from netwatch.capture.open import open_sensor
sensor = open_sensor()
state = sensor.state()
sensor.close()
print(state.method, state.problem, sep="|")
"""


@pytest.mark.parametrize(
    ("capabilities", "method", "problem"),
    [
        pytest.param("+bpf,+net_admin", "tcx", "None", id="no more than is needed"),
        pytest.param("+net_admin", "conntrack", "CAP_BPF|not permitted", id="without CAP_BPF"),
    ],
)
def test_it_steps_down_to_what_the_rights_allow_and_says_why(
    capabilities: str, method: str, problem: str
) -> None:
    """Auto takes the best that works; CAP_BPF and CAP_NET_ADMIN are enough for the best."""
    outcome = run(["setpriv", f"--bounding-set=-all,{capabilities}", sys.executable, "-c", CHILD])
    assert outcome.code == 0, outcome.err
    said = outcome.out.strip().split("|")
    assert said[0] == method
    assert any(part in said[1] for part in problem.split("|")), said

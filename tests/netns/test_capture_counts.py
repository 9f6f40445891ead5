"""What the sensors count is what was sent: exactly, once, on tcx and on clsact alike."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from netwatch.kernel.namespaces import inside, path_of_name
from tests.netns.bridges import (
    A6,
    B6,
    C6,
    HOST,
    METHODS,
    OUT,
    A,
    B,
    C,
    Net,
    answer_twice,
    at,
    connect,
    ip,
    lost,
    mapped,
    of,
    serving,
    settled,
    udp,
    until,
    v4,
    v6,
    watching,
)

pytestmark = pytest.mark.netns


LINGER_RESET = struct.pack("ii", 1, 0)


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
    at(HOST, "sysctl", "-qw", "net.ipv6.conf.hnwt-out.disable_ipv6=1")  # it reports its groups
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
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
            sent = _bytes_sent(client)
        batch = until(sensor, settled(port))
        bytes_after, packets_after = counters()
    at(HOST, "ethtool", "-K", "hnwt-out", "tso", "on", "gso", "on")
    at(HOST, "sysctl", "-qw", "net.ipv6.conf.hnwt-out.disable_ipv6=0")
    (entry,) = of(batch.entries, port)
    assert received[1] == size
    there = 0 if entry["low"] == np.void(mapped(A)) else 1
    packets = packets_after - packets_before
    assert entry["packets"][there] == packets
    assert entry["bytes"][there] == bytes_after - bytes_before - 14 * packets
    assert entry["payload_bytes"][there] == sent >= size


def _bytes_sent(client: socket.socket) -> int:
    """With what was sent twice: tcpi_bytes_sent (linux/tcp.h)."""
    told = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 208)
    return int.from_bytes(told[200:], sys.byteorder)


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


@dataclass(frozen=True)
class Refusal:
    """Who calls whom in vain, and which rule of the host, if any, says so."""

    protocol: int
    caller: str
    called: str
    port: int
    rule: str = ""


REFUSALS = [
    pytest.param(Refusal(17, A, B, 5101), id="v4, the workload has no such UDP port"),
    pytest.param(Refusal(17, A6, B6, 5102), id="v6, the workload has no such UDP port"),
    pytest.param(Refusal(17, A, v4(0, 1), 5103), id="v4, the host has no such UDP port"),
    pytest.param(Refusal(17, A6, v6(0, 1), 5104), id="v6, the host has no such UDP port"),
    pytest.param(
        Refusal(17, A, C, 5105, "-p udp -d {} --dport {} -j REJECT"), id="v4, UDP is rejected"
    ),
    pytest.param(
        Refusal(17, A6, C6, 5106, "-p udp -d {} --dport {} -j REJECT"), id="v6, UDP is rejected"
    ),
    pytest.param(
        Refusal(6, A, C, 5107, "-p tcp -d {} --dport {} -j REJECT"), id="v4, a SYN is rejected"
    ),
    pytest.param(
        Refusal(6, A6, C6, 5108, "-p tcp -d {} --dport {} -j REJECT"), id="v6, a SYN is rejected"
    ),
]


@contextmanager
def rejecting(refusal: Refusal) -> Iterator[None]:
    """The rule, in the host, for the time of the block."""
    program = "ip6tables" if ":" in refusal.called else "iptables"
    rule = refusal.rule.format(refusal.called, refusal.port).split()
    if rule:
        at(HOST, program, "-I", "FORWARD", *rule)
    try:
        yield
    finally:
        if rule:
            at(HOST, program, "-D", "FORWARD", *rule)


def call_in_vain(refusal: Refusal) -> None:
    """Once, until the error has arrived at the caller's socket."""
    if refusal.protocol == 6:
        with pytest.raises(OSError):
            connect("nwt-a", refusal.called, refusal.port)
        return
    with udp("nwt-a", refusal.caller) as client:
        client.connect((refusal.called, refusal.port))
        client.send(b"anybody?")
        with pytest.raises(OSError) as error:
            client.recv(100)
        assert not isinstance(error.value, TimeoutError)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_an_icmp_error_is_the_answer_of_the_conversation_it_quotes(
    net: Net, method: str, refusal: Refusal
) -> None:
    """It makes no row of its own, and counts once as a refusal of the call (RFC 792, RFC 4443)."""
    with watching(net, method) as sensor, rejecting(refusal):
        call_in_vain(refusal)
        batch = until(sensor, settled(refusal.port))
    (entry,) = of(batch.entries, refusal.port)
    there = 0 if entry["low"] == np.void(mapped(refusal.caller)) else 1
    assert (entry["protocol"], entry["refused"]) == (refusal.protocol, 1)
    assert entry["packets"][1 - there] == 0, "the error is no packet of the conversation"
    assert entry["packets"][there] == 1 or refusal.protocol == 6, "only a SYN is sent again"
    assert not set(batch.entries["protocol"].tolist()) & {1, 58}
    assert lost(batch) == {}


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

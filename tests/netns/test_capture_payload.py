"""The first bytes of each direction, in order, and no more than was asked for or can be judged."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from netwatch.capture.ebpf import EbpfSensor
from tests.netns.bridges import (
    METHODS,
    A,
    B,
    Net,
    answer_twice,
    connect,
    lost,
    of,
    serving,
    settled,
    udp,
    until,
    watching,
)

pytestmark = pytest.mark.netns


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
def test_of_a_crowd_only_so_many_are_heard_and_each_of_the_others_is_counted(
    net: Net, method: str
) -> None:
    """20 at once, then 5 a second and 2 of every edge: the crowd to one port takes all there is,
    and two connections to another port are heard all the same."""
    with (
        closing(
            EbpfSensor(method, namespace=net.path, entries=4096, burst=20, rate=5, each=2)
        ) as sensor,
        serving("nwt-b", B, 8020, answer_twice),
        serving("nwt-b", B, 8021, answer_twice),
    ):
        sensor.watch(net.workloads, net.uplinks)
        for port in (8020,) * 200 + (8021,) * 2:
            with connect("nwt-a", B, port) as client:
                client.sendall(b"question!!")
                assert len(client.recv(20, socket.MSG_WAITALL)) == 20
        batch = until(sensor, settled(8021))
    crowd, others = (of(batch.entries, port) for port in (8020, 8021))
    crowded = crowd[crowd["crowded"] != 0]
    assert int(crowd["opened"].sum()) == 200
    assert lost(batch) == {"first-bytes-not-judged": int(crowded["opened"].sum())}
    assert 20 <= 200 - len(crowded) < 100
    heard = {p.low_port for p in batch.payloads if p.high_port == 8020}
    assert heard.isdisjoint(crowded["low_port"].tolist())
    assert heard == set(crowd["low_port"][crowd["crowded"] == 0].tolist())
    assert not others["crowded"].any()
    assert {p.low_port for p in batch.payloads if p.high_port == 8021} == set(
        others["low_port"].tolist()
    )
    assert (crowd["connection"] != 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_first_bytes_that_find_the_ring_full_are_counted_and_their_packets_are_not_lost(
    net: Net, method: str
) -> None:
    """A ring of 64 kB holds some sixty datagrams of a thousand bytes; several hundred come before
    anybody takes one out. Each was heard or is in the loss, and every packet was counted."""
    sent, size = 600, 1000
    with (
        closing(
            EbpfSensor(method, namespace=net.path, entries=4096, ring_bytes=1 << 16)
        ) as sensor,
        udp("nwt-b", B, 5030),
    ):
        sensor.watch(net.workloads, net.uplinks)
        clients = [udp("nwt-a", A) for _ in range(sent)]
        for client in clients:
            client.sendto(bytes(size), (B, 5030))
        batch = until(sensor, settled(5030))
        for client in clients:
            client.close()
    seen = of(batch.entries, 5030)
    assert int(seen["packets"].sum()) == len(seen) == sent
    heard = [piece for piece in batch.payloads if 5030 in (piece.low_port, piece.high_port)]
    assert {len(piece.data) for piece in heard} == {size}
    assert lost(batch) == {"ring-full": sent - len(heard)}

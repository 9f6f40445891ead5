"""What conntrack adds: translations, and counts where there is no eBPF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest

from netwatch.capture.open import open_sensor
from tests.netns.bridges import (
    HOST,
    OUT,
    A,
    C,
    Net,
    answer_twice,
    at,
    connect,
    mapped,
    of,
    serving,
    until,
)

pytestmark = pytest.mark.netns


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

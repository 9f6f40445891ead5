"""Forced overload: what is seen and what is said to be lost are together what was sent.

The agent may count far fewer connections at once than are made between two of its reports. What
was sent is what the kernels of both containers say of themselves (/proc/PID/net).
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from private_dockerd import Engine
from program import Netwatch
from test_docker_truth import DATAGRAM, STREAM, becomes, opened, place, serving

from netwatch.kernel.namespaces import inside

pytestmark = pytest.mark.docker
ENTRIES = 512
CALLS, DATAGRAMS = 4_000, 6_000
PORTS = {0: (7001, 7002), 1: (7061, 7062)}  # for IPv4 and IPv6: of connections, of datagrams
NAMES = ("client", "server")
ANSWERS = ("map", "edges", "flows", "workloads", "hosts", "alerts", "losses")


@pytest.fixture
def addresses(engine: Engine, netwatch: Netwatch) -> dict[str, tuple[str, str]]:
    """`client` and `server` by both families, watched by an agent with a small map of flows."""
    pool = [{"Subnet": "198.18.210.0/24"}, {"Subnet": "2001:db8:a::/64"}]
    engine.client.create_network(
        "both", driver="bridge", enable_ipv6=True, ipam={"Driver": "default", "Config": pool}
    )
    ports = tuple(each for tcp, udp in PORTS.values() for each in (tcp, (udp, "udp")))
    for name in NAMES:
        engine.run(name, network="both", expose=ports if name == "server" else ())
    netwatch.environment["NETWATCH_CAPTURE_ENTRIES"] = str(ENTRIES)
    netwatch.up()
    found = {name: engine.client.inspect_container(name)["NetworkSettings"] for name in NAMES}
    both = {name: each["Networks"]["both"] for name, each in found.items()}
    return {name: (each["IPAddress"], each["GlobalIPv6Address"]) for name, each in both.items()}


def kernel(engine: Engine, name: str) -> dict[str, int]:
    """What a container's kernel sent so far: connections opened, TCP and UDP packets."""
    pid = engine.client.inspect_container(name)["State"]["Pid"]
    with open(f"/proc/{pid}/net/snmp") as file:
        lines = [line.split() for line in file]
    found = {
        f"{names[0]}{key}": int(value)
        for names, values in zip(lines[::2], lines[1::2], strict=True)
        for key, value in zip(names[1:], values[1:], strict=True)
    }
    with open(f"/proc/{pid}/net/snmp6") as file:
        found |= {key: int(value) for key, value in (line.split() for line in file)}
    return {
        "opened": found["Tcp:ActiveOpens"],
        "segments": found["Tcp:OutSegs"] + found["Tcp:RetransSegs"],
        "datagrams": found["Udp:OutDatagrams"] + found["Udp6OutDatagrams"],
    }


def together(engine: Engine, fact: str) -> int:
    return sum(kernel(engine, name)[fact] for name in NAMES)


def asked(netwatch: Netwatch, path: str) -> dict[str, Any]:
    """An answer of the API."""
    state = netwatch.folder / "state"
    url = f"{(state / 'url').read_text().strip()}/api/v1/{path}"
    token = (state / "token").read_text().strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


Account = Callable[[], list[int]]


def account(netwatch: Netwatch, port: int, *reasons: str) -> Account:
    """Connections and packets from now on: of every edge of this port and, by these reasons, lost.

    Who is said to be at the ends of an edge plays no part in it.
    """

    def summed() -> list[int]:
        answer = asked(netwatch, "edges")
        edges, losses = [e for e in answer["edges"] if e["port"] == port], answer["losses"]
        figures = zip(("connections", "packets"), reasons, strict=True)
        return [sum(e[f] for e in edges) + losses.get(r, 0) for f, r in figures]

    before = summed()
    return lambda: [now - then for now, then in zip(summed(), before, strict=True)]


def near(*wanted: int) -> Any:
    return pytest.approx(list(wanted), rel=0.001)


def test_seen_and_lost_are_sent(
    addresses: dict[str, tuple[str, str]], engine: Engine, netwatch: Netwatch
) -> None:
    """Connections, then single datagrams, ten times as many as the map holds, by both families."""
    for family, (stream, datagram) in PORTS.items():
        source, target = addresses["client"][family], addresses["server"][family]
        client, server = place(engine, "client"), place(engine, "server")

        def call(target: str = target, port: int = stream) -> None:
            for _ in range(CALLS):
                with closing(opened(None, target, STREAM)) as one:
                    one.connect((target, port))

        def send(source: str = source, target: str = target, port: int = datagram) -> None:
            for number in range(DATAGRAMS):
                with closing(opened(None, target, DATAGRAM)) as one:
                    one.bind((source, 20_000 + number))
                    one.sendto(b"x", (target, port))

        before = together(engine, "opened"), together(engine, "segments")
        counted = account(netwatch, stream, "connections-lost", "packets-lost")
        with serving(server, target, stream):
            inside(client, call)
        packets = together(engine, "segments") - before[1]
        assert together(engine, "opened") - before[0] == CALLS
        becomes(counted, near(CALLS, packets))

        already = together(engine, "datagrams")
        counted = account(netwatch, datagram, "evicted", "packets-lost")
        with closing(opened(server, target, DATAGRAM)) as sink:
            sink.bind((target, datagram))
            inside(client, send)
        assert together(engine, "datagrams") - already == DATAGRAMS
        becomes(counted, near(DATAGRAMS, DATAGRAMS))

    losses = asked(netwatch, "losses")["losses"]
    assert losses["connections-lost"] > CALLS // 4
    assert losses["packets-lost"] > DATAGRAMS // 4
    ends = {
        (edge["source"]["name"], edge["destination"]["name"], edge["port"])
        for edge in asked(netwatch, "edges")["edges"]
    }
    assert ends == {(*NAMES, port) for ports in PORTS.values() for port in ports}
    for path in ANSWERS:
        assert asked(netwatch, path)["losses"] == losses

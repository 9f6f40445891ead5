"""What is counted is what was sent: short connections, single datagrams, every kind of path.

Clients and servers are sockets of this process, opened inside the namespaces of real containers:
a shell in the container could not make a thousand connections of a millisecond.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from private_dockerd import Engine
from program import Netwatch

from netwatch.kernel.commands import check, run
from netwatch.kernel.namespaces import inside, path_of_name, path_of_pid

pytestmark = pytest.mark.docker
MANY = 1_000
OUTSIDE = "nwt-outside"
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


def place(engine: Engine, name: str) -> Path:
    """The network namespace of a running container."""
    return path_of_pid(int(engine.client.inspect_container(name)["State"]["Pid"]))


def opened(namespace: Path | None, address: str, kind: socket.SocketKind) -> socket.socket:
    """A socket of the address's family, in a namespace or (None) on the host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def make() -> socket.socket:
        return socket.socket(family, kind)

    made = make() if namespace is None else inside(namespace, make)
    made.settimeout(5)
    return made


@contextmanager
def serving(namespace: Path | None, address: str, port: int) -> Iterator[None]:
    """Accepts connections, reads to their end, and closes them."""
    listener = opened(namespace, address, STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    listener.settimeout(None)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                connection.recv(1)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        listener.close()


def call(namespace: Path | None, address: str, port: int) -> None:
    """One connection that says nothing and ends at once."""
    with closing(opened(namespace, address, STREAM)) as client:
        client.connect((address, port))


def becomes(fact: Callable[[], Any], wanted: Any, *, within: float = 15.0, told: str = "") -> None:
    """Asserts that a fact comes true; a failure shows the difference that was there last."""
    deadline = time.monotonic() + within
    while (found := fact()) != wanted and time.monotonic() < deadline:
        continue
    assert found == wanted, told


def connections(netwatch: Netwatch, key: tuple[str, str, int]) -> int:
    found = netwatch.edges().get(key)
    return found["connections"] if found else 0


@pytest.fixture
def pair(engine: Engine, netwatch: Netwatch) -> dict[str, tuple[str, str]]:
    """`client` and `server` on a network with both families; their addresses by name."""
    pool = [{"Subnet": "198.18.210.0/24"}, {"Subnet": "2001:db8:a::/64"}]
    engine.client.create_network(
        "both", driver="bridge", enable_ipv6=True, ipam={"Driver": "default", "Config": pool}
    )
    for name in ("client", "server"):
        engine.run(name, network="both")
    netwatch.up()
    return {name: addresses(engine, name) for name in ("client", "server")}


def addresses(engine: Engine, name: str) -> tuple[str, str]:
    found = engine.client.inspect_container(name)["NetworkSettings"]["Networks"]["both"]
    return found["IPAddress"], found["GlobalIPv6Address"]


@pytest.mark.parametrize("family", [pytest.param(0, id="IPv4"), pytest.param(1, id="IPv6")])
def test_a_thousand_of_each_are_a_thousand(
    pair: dict[str, tuple[str, str]], engine: Engine, netwatch: Netwatch, family: int
) -> None:
    """Connections shorter than any interval, and datagrams that nobody answers; nothing lost."""
    address = pair["server"][family]
    ends = place(engine, "client"), place(engine, "server")
    with serving(ends[1], address, 7001):
        for _ in range(MANY):
            call(ends[0], address, 7001)
    with closing(opened(ends[1], address, DATAGRAM)) as sink:
        sink.bind((address, 7002))
        for number in range(MANY):
            with closing(opened(ends[0], address, DATAGRAM)) as one:
                one.bind(("", 20_000 + number))  # what the kernel would choose repeats itself
                one.sendto(b"x", (address, 7002))
    keys = [("client", "server", port) for port in (7001, 7002)]
    becomes(lambda: [connections(netwatch, key) for key in keys], [MANY, MANY])
    answer = netwatch.ok("edges")
    assert not any(answer["losses"].values()), answer["losses"]
    datagrams = next(e for e in answer["edges"] if e["port"] == 7002)
    size = 28 + 1 if family == 0 else 48 + 1
    assert (datagrams["packets"], datagrams["bytes"]) == (MANY, MANY * size)


@pytest.fixture
def outside() -> Iterator[Path]:
    """A machine at 203.0.113.2 beside this host, which routes to the containers through it."""
    check(["ip", "netns", "add", OUTSIDE])
    try:
        check(["ip", "link", "add", "outside", "type", "veth", "peer", "eth0", "netns", OUTSIDE])
        check(["ip", "link", "set", "outside", "up"])
        check(["ip", "addr", "add", "203.0.113.1/24", "dev", "outside"])
        for words in ("link set lo up", "link set eth0 up", "addr add 203.0.113.2/24 dev eth0"):
            check(["ip", "-n", OUTSIDE, *words.split()])
        yield path_of_name(OUTSIDE)
    finally:
        run(["ip", "link", "del", "outside"])
        run(["ip", "netns", "del", OUTSIDE])


Edge = tuple[str, str, int]


# way -> who really talks, and on which port of its own; None where no link carries it
PATHS: dict[str, Edge | None] = {
    "same bridge": ("near", "web", 80),
    "published port, by the gateway": ("near", "web", 80),
    "published port, from another network": ("far", "web", 80),
    "published port, from outside": ("203.0.113.2", "web", 80),
    "a service of the host": ("near", "alpha", 9099),
    "a container that shares another's network": ("near", "web", 80),
    "to itself": None,
    "host to container": ("alpha", "solo", 80),
    "host to its own address": ("alpha", "solo", 80),
    "host to its own address, as workloads did": ("alpha", "web", 80),
    "host to loopback, through docker-proxy": ("alpha", "solo", 80),
    "a container that is the host": ("alpha", "solo", 80),
    "macvlan to macvlan": ("lan-a", "lan-b", 80),
    "macvlan to outside": ("lan-a", "198.18.120.1", 80),
    "macvlan from outside": ("198.18.120.1", "lan-b", 80),
}


def ways(engine: Engine, outside: Path) -> dict[str, tuple[Path | None, str, int]]:
    """Where each path begins, and what is called there."""
    web, solo, gateway = engine.address("web"), engine.address("solo"), "198.18.0.1"
    near, lan_b = place(engine, "near"), engine.address("lan-b", "lan")
    return {
        "same bridge": (near, web, 80),
        "published port, by the gateway": (near, gateway, 8080),
        "published port, from another network": (place(engine, "far"), gateway, 8080),
        "published port, from outside": (outside, "203.0.113.1", 8080),
        "a service of the host": (near, gateway, 9099),
        "a container that shares another's network": (place(engine, "sidecar"), web, 80),
        "to itself": (place(engine, "web"), web, 80),
        "host to container": (None, solo, 80),
        "host to its own address": (None, gateway, 8081),
        "host to its own address, as workloads did": (None, gateway, 8080),
        "host to loopback, through docker-proxy": (None, "127.0.0.1", 8081),
        "a container that is the host": (place(engine, "on-host"), solo, 80),
        "macvlan to macvlan": (place(engine, "lan-a"), lan_b, 80),
        "macvlan to outside": (place(engine, "lan-a"), "198.18.120.1", 80),
        "macvlan from outside": (outside, lan_b, 80),
    }


def test_each_path_is_the_right_edge(
    engine: Engine, netwatch: Netwatch, outside: Path, macvlan: str
) -> None:
    """Ten calls on each; they count on the edge between those who talk, and on no other.

    Where a workload has called a server through a door, its host calling the same server without
    its own rules translating it is not told apart from docker-proxy (`controller.edges`), so those
    calls go to another one.
    """
    engine.load("web", ("EXPOSE 80",))
    engine.client.create_network("other", driver="bridge")
    engine.run("web", "httpd -f -p 80", image="web", publish={80: 8080}, expose=(80,))
    engine.run("solo", "httpd -f -p 80", image="web", publish={80: 8081}, expose=(80,))
    engine.run("near")
    engine.run("far", network="other")
    engine.run("on-host", network="host")
    engine.run("sidecar", network="container:near")
    engine.run("lan-a", network=macvlan)
    engine.run("lan-b", "httpd -f -p 80", image="web", network=macvlan, expose=(80,))
    check(["ip", "link", "set", "mv1", "netns", OUTSIDE])
    check(["ip", "-n", OUTSIDE, "addr", "add", "198.18.120.1/24", "dev", "mv1"])
    check(["ip", "-n", OUTSIDE, "link", "set", "mv1", "up"])
    netwatch.environment["NETWATCH_UPLINKS"] = "outside"
    netwatch.up()
    expected: dict[Edge, int] = {}
    with serving(None, "0.0.0.0", 9099), serving(outside, "198.18.120.1", 80):
        for way, (source, address, port) in ways(engine, outside).items():
            for _ in range(10):
                call(source, address, port)
            edge = PATHS[way]
            if edge is not None:
                expected[edge] = expected.get(edge, 0) + 10
            becomes(lambda: seen(netwatch), expected, told=way)


def seen(netwatch: Netwatch) -> dict[Edge, int]:
    return {key: edge["connections"] for key, edge in netwatch.edges().items()}


def test_a_container_of_300_ms_is_named(engine: Engine, netwatch: Netwatch) -> None:
    """It starts, calls, and is gone before anybody could look: five of them, five edges.

    Where its link was watched a moment after its SYN the connection counts as an older one.
    """
    engine.run("web", "httpd -f -p 80", expose=(80,))
    netwatch.up()
    address = engine.address("web")
    names = [f"brief-{number}" for number in range(5)]
    for name in names:
        engine.run(name, ["sh", "-c", f"nc -w 1 {address} 80 </dev/null; sleep 0.2"])
    becomes(lambda: set(seen(netwatch)), {(name, "web", 80) for name in names})

"""A host with two bridges, three workloads and an uplink, and what the capture tests do in it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from netwatch.capture.ebpf import EbpfSensor
from netwatch.capture.sensor import Batch, Sensor
from netwatch.kernel.commands import check, run
from netwatch.kernel.namespaces import inside, path_of_name

HOST = "nwt-host"
# name -> bridge (None: an uplink), IPv4 and IPv6 prefix, last number of its own address
ENDS = {"nwt-a": ("br0", 0, 11), "nwt-b": ("br0", 0, 12), "nwt-c": ("br1", 1, 11)}
NAMES = (HOST, "nwt-out", *ENDS)
METHODS = [pytest.param("tcx", id="tcx"), pytest.param("clsact", id="clsact")]


def v4(network: int, number: int) -> str:
    return f"198.18.{network}.{number}"


def v6(network: int, number: int) -> str:
    return f"2001:db8:{network}::{number}"


A, B, C, OUT = v4(0, 11), v4(0, 12), v4(1, 11), "198.51.100.2"
A6, B6, C6 = v6(0, 11), v6(0, 12), v6(1, 11)


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


def remove() -> None:
    for name in NAMES:
        run(["ip", "netns", "del", name])


def build() -> Net:
    for name in NAMES:
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
        ip("route", "add", "default", "via", v6(network, 1), at=name)
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


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not come true within 10 s"
        time.sleep(0.02)

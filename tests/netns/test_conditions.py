"""What a SYN can not answer, in the kernel: egress by DNS name, and obligations that are broken."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.conftest import Said, run_netwatch
from tests.netns.running import Up
from tests.netns.test_enforce import call, host, inside

pytestmark = pytest.mark.netns

DNS, OUTSIDE = "198.18.1.13", "203.0.113.1"
PROMISE_S = 3.0  # three times the second that is promised
LAB = """
hosts: [a]
namespaces: {shop: {}}
internet: {listen: [{port: 80, serve: echo}, {port: 81, serve: echo}]}
workloads:
  - {name: web, host: a, namespace: shop, labels: {app: web}, addresses: [198.18.1.10]}
  - {name: api, host: a, namespace: shop, labels: {app: api}, addresses: [198.18.1.11],
     listen: [{port: 443, serve: echo}, {port: 444, serve: https}]}
  - {name: dns, host: a, namespace: shop, labels: {app: dns}, addresses: [198.18.1.13]}
"""
SEGMENT = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: web, namespace: shop}
spec:
  mode: enforce
  governs: {app: web}
  rules:
    - {to: {app: dns}, ports: [53/udp, 53/tcp], because: names}
    - {to: api.example.com, ports: 80, because: orders}
    - {to: {app: api}, ports: [443, 444], require: encrypted, because: secrets}
"""
# A name server: the question back, with one address. Over UDP and over TCP.
SERVER = """
import socket, sys, threading
address, ttl = socket.inet_aton(sys.argv[1]), int(sys.argv[2])
def answer(asked):
    head = asked[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
    return head + asked[12:] + b"\\xc0\\x0c\\0\\1\\0\\1" + ttl.to_bytes(4, "big") + b"\\0\\4" + address
def tcp():
    door = socket.create_server(("0.0.0.0", 53))
    while True:
        link, _ = door.accept()
        said = answer(link.recv(512)[2:])
        link.sendall(len(said).to_bytes(2, "big") + said)
        link.close()
threading.Thread(target=tcp, daemon=True).start()
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    asked, client = link.recvfrom(512)
    link.sendto(answer(asked), client)
"""
# Asks for a name, and connects to what it is told, in one blocking call, as programs do.
CLIENT = """
import socket, sys, time
server, name, port, how = sys.argv[1:5]
labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
asked = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels + b"\\0\\0\\1\\0\\1"
kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
link = socket.socket(socket.AF_INET, kind)
link.settimeout(5)
link.connect((server, 53))
link.send(len(asked).to_bytes(2, "big") + asked if how == "tcp" else asked)
address = socket.inet_ntoa(link.recv(512)[-4:])
begun = time.monotonic()
try:
    socket.create_connection((address, int(port)), timeout=5).close()
    print(time.monotonic() - begun)
except OSError as error:
    print(type(error).__name__)
"""


def python(workload: str, program: str, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "netwatch", "lab", "exec", workload, "--"),
        *(sys.executable, "-c", program, *arguments),
    ]


@contextmanager
def talking(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program in a workload that has said its first line."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield child
        child.kill()


def resolve(name: str, port: int, how: str = "udp") -> str:
    """What connecting by name gave: seconds, or the error."""
    done = subprocess.run(
        python("web", CLIENT, DNS, name, str(port), how),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def until(fact: Callable[[], bool], seconds: float, what: str) -> float:
    """How long it took; fails after `seconds`."""
    begun = time.monotonic()
    while not fact():
        assert time.monotonic() - begun < seconds, what
        time.sleep(0.1)
    return time.monotonic() - begun


@pytest.fixture
def guarded(
    lab: Callable[[str], Said], up: Callable[..., Up], tmp_path: Path
) -> Iterator[Callable[[str], Up]]:
    """The lab with a document in force and an agent, whose names last no longer than told."""
    lab(LAB)

    def start(document: str) -> Up:
        file = tmp_path / "web.yaml"
        file.write_text(document)
        running = up(NETWATCH_NAME_GRACE="0")
        running.ready()
        said = host("apply", "--policies", str(file), "--json")
        assert said.code == 0, said.err
        return running

    yield start
    host("remove")


@pytest.mark.parametrize("how", ["udp", "tcp"])
def test_a_name_opens_when_it_is_answered_and_closes_when_its_time_is_over(
    guarded: Callable[[str], Up], how: str
) -> None:
    """One blocking connect after the answer gets through, and nothing before or beside it."""
    guarded(SEGMENT)
    assert not call("web", "internet", 80)
    with talking(python("dns", SERVER, OUTSIDE, "1")):
        assert float(resolve("api.example.com", 80, how)) < PROMISE_S
        assert call("web", "internet", 80)
        assert not call("web", "internet", 81)
        assert host("verify", "--json").json["ok"]
        until(lambda: not call("web", "internet", 80), 20, "it stays open")
        assert resolve("other.test", 80) == "TimeoutError"
    assert not call("web", "internet", 80)

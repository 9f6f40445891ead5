"""Who is at the ends of a flow: processes on this host, and names of what lies outside."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.netns.running import Up

pytestmark = pytest.mark.netns

OUTSIDE, GROUPED = "203.0.113.77", "198.51.100.20"
LAB = """
hosts: [a]
namespaces: {shop: {}}
workloads:
  - {name: web, host: a, namespace: shop, addresses: [198.18.1.10]}
  - {name: dns, host: a, namespace: shop, addresses: [198.18.1.11],
     listen: [{port: 80, protocol: tcp, serve: echo}]}
"""
# Answers the first question with OUTSIDE, for a minute.
ANSWER = """
import socket, sys
serving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
serving.bind(("198.18.1.11", 53))
print("ready", flush=True)
asked, client = serving.recvfrom(512)
head = asked[:2] + bytes.fromhex("81800001000100000000")
record = bytes.fromhex("c00c000100010000003c0004") + socket.inet_aton(sys.argv[1])
serving.sendto(head + asked[12:] + record, client)
"""
# Asks, then sends a datagram to each of two addresses outside.
ASK = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(10)
asking.sendto(bytes.fromhex(sys.argv[1]), ("198.18.1.11", 53))
asking.recv(512)
for address in sys.argv[2:]:
    asking.sendto(b"hello", (address, 9999))
"""
HOLD = """
import os, socket, sys
held = socket.create_connection(("198.18.1.11", 80))
held.sendall(b"hello")
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def query(name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", 0x4E57, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!xHH", 1, 1)


@contextmanager
def inside(workload: str, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a workload; it has ended with the block."""
    start = [sys.executable, "-m", "netwatch", "lab", "exec", workload, "--"]
    with subprocess.Popen(
        [*start, sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def outside(up: Up) -> dict[str, dict[str, Any]]:
    found = up.get("edges?port=9999")["edges"]
    return {e["destination"]["name"]: e["destination"] for e in found}


def test_the_ends_of_a_flow_have_processes_and_those_outside_have_names(
    lab: Callable[[str], object], up: Callable[..., Up]
) -> None:
    """A held connection: the client's pid and the server's program. An address that an answer of
    DNS named, and one that an operator's group holds: each with who said so.
    """
    lab(LAB)
    running = up(NETWATCH_EXTERNAL="office=198.51.100.0/24")
    running.ready()
    with inside("web", HOLD) as holding:
        pid = int(heard(holding))
        running.wait(lambda: bool(running.get("flows?port=80")["flows"]), "no flow is told")
        (flow,) = running.get("flows?port=80")["flows"]
    exe = os.path.realpath(sys.executable)
    assert flow["client"]["process"] == {"pid": pid, "exe": exe, "uid": 0, "user": "root"}
    assert flow["server"]["process"]["exe"] == exe
    assert flow["server"]["process"]["pid"] != pid

    with inside("dns", ANSWER, OUTSIDE) as answering:
        assert heard(answering) == "ready"
        with inside("web", ASK, query("api.example.com").hex(), OUTSIDE, GROUPED):
            pass
    running.wait(lambda: {OUTSIDE, GROUPED} <= outside(running).keys(), "no edge outside is told")
    named = {k: (e["known_as"], e["named_by"]) for k, e in outside(running).items()}
    assert named == {OUTSIDE: ("api.example.com", "dns"), GROUPED: ("office", "cidr")}
    nodes = {node["id"]: node for node in running.get("map")["nodes"]}
    assert nodes[f"external:{OUTSIDE}"]["label"] == "api.example.com"

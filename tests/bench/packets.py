"""What a packet that begins a connection costs under the rules: ours, and one rule a pair.

Run it apart, as root: `tests/apart .venv/bin/python tests/bench/packets.py`. Two hosts, each with
two workloads on one bridge; one host has an established-accept rule only. A workload sends 64-byte
datagrams that nobody answers, so each of them is NEW and walks all rules there are, and on the way
the bridges' table. Sender and kernel share one core, so the time of a burst is the cost of its
packets. Windows of both hosts alternate.
"""

from __future__ import annotations

import ctypes
import os
import socket
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from apply import document
from ratios import HEADINGS, tell

from netwatch.enforce import kernel
from netwatch.enforce.compile import compile
from netwatch.enforce.plan import NOTHING, plan
from netwatch.enforce.writers import Restore
from netwatch.kernel.commands import check
from netwatch.kernel.namespaces import inside, path_of_name, socket_inside
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Interface, Label, Workload
from netwatch.policy.ir import PortSpec

PLAIN, RULED = "nwb-plain", "nwb-ruled"  # the hosts; their workloads are HOST-client, -server
GATE = 1.5
SIDES = {100: 10, 10_000: 100, 60_025: 245}  # edges: clients, and as many servers
PAIRS = 24
BURST, BURSTS = 64, 60  # datagrams of one sendmmsg, and how many of them make a window
NAIVE = (100, 1_000, 10_000)
BASE = (
    "*filter",
    "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
    "-A FORWARD -j ACCEPT",
    "COMMIT",
)
NONE = ("*filter", ":NAIVE - [0:0]", "-D FORWARD -j NAIVE", "-X NAIVE", "COMMIT")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct mmsghdr of sendmmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("vector", ctypes.POINTER(_Vector)),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint32),
    )


def workload(role: str, number: int) -> Workload:
    """Number 0 is real: it has a link; the others are addresses."""
    subnet = 0 if role == "client" else 1
    link = (Interface(f"v{role}", 1, "br0", "lab"),) if number == 0 else ()
    return Workload(
        "a",
        "x",
        f"{role}{number}",
        "bench",
        labels=(Label("role", role, "bench"),),
        addresses=(f"198.18.{subnet}.{number + 10}",),
        networks=("lab",),
        interfaces=link,
    )


def estate(side: int) -> Snapshot:
    """So many clients and servers on one bridge."""
    ends = tuple(workload(role, n) for role in ("client", "server") for n in range(side))
    network = Network("lab", "bridge", "br0", ("198.18.0.0/23",), ("198.18.0.1",))
    return Snapshot("a", ends, (network,), addresses=("198.18.0.1",))


def build(host: str) -> None:
    """A host with a bridge, and two namespaces on it."""
    ip = ["ip", "-n", host]
    check(["ip", "netns", "add", host])
    check([*ip, "link", "add", "br0", "type", "bridge"])
    check([*ip, "addr", "add", "198.18.0.1/23", "dev", "br0"])
    check([*ip, "link", "set", "br0", "up"])
    for role, subnet in (("client", 0), ("server", 1)):
        name = f"{host}-{role}"
        check(["ip", "netns", "add", name])
        peer = ["peer", "name", "eth0", "netns", name]
        check([*ip, "link", "add", f"v{role}", "type", "veth", *peer])
        check([*ip, "link", "set", f"v{role}", "master", "br0", "up"])
        check(["ip", "-n", name, "addr", "add", f"198.18.{subnet}.10/23", "dev", "eth0"])
        check(["ip", "-n", name, "link", "set", "eth0", "up"])
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    inside(path_of_name(host), lambda: switch.write_text("1"))


class Sender:
    """Sends bursts of datagrams that nobody reads."""

    def __init__(self, host: str) -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self._server = socket_inside(
            path_of_name(f"{host}-server"), socket.AF_INET, socket.SOCK_DGRAM
        )
        self._server.bind(("198.18.1.10", 80))
        self._client = socket_inside(
            path_of_name(f"{host}-client"), socket.AF_INET, socket.SOCK_DGRAM
        )
        self._client.connect(("198.18.1.10", 80))
        vector = _Vector(b"x" * 22, 22)  # with Ethernet, IP and UDP: 64 bytes
        self._vector = vector
        self._headers = (_Header * BURST)(
            *(_Header(vector=ctypes.pointer(vector), vectors=1) for _ in range(BURST))
        )
        self._send = ctypes.CDLL(None, use_errno=True).sendmmsg

    def window(self) -> float:
        """ns a packet: the lower quartile of its bursts, which others disturbed least."""
        took = []
        for _ in range(BURSTS):
            start = time.perf_counter_ns()
            sent = self._send(self._client.fileno(), self._headers, BURST, 0)
            took.append((time.perf_counter_ns() - start) / max(1, sent))
        return statistics.quantiles(took, n=4)[0]


def put(host: str, backend: str, lines: tuple[str, ...]) -> None:
    inside(path_of_name(host), lambda: Restore(backend).restore(4, lines, check_only=False))


def govern(backend: str, edges: int | None) -> None:
    """Our rules for so many edges, of which the pair that talks is one; None takes them away."""
    ruleset = NOTHING
    if edges is not None:
        text = document()
        rules = tuple(replace(r, ports=(PortSpec("udp", 80, 80),)) for r in text.ingress)
        ruleset = compile((replace(text, ingress=rules),), estate(SIDES[edges]), now=0)
    inside(
        path_of_name(RULED),
        lambda: kernel.carry_out(plan(ruleset, kernel.read(backend)), backend),
    )


def naive(number: int) -> tuple[str, ...]:
    """One rule a pair, the pair that talks in the middle."""
    rest = "-d 198.18.1.10 -p udp --dport 80 -j ACCEPT"
    lines = [f"-A NAIVE -s 10.0.{n >> 8}.{n & 255} {rest}" for n in range(number)]
    lines[number // 2] = f"-A NAIVE -s 198.18.0.10 {rest}"
    return ("*filter", ":NAIVE - [0:0]", *lines, "-I FORWARD 2 -j NAIVE", "COMMIT")


def ratios(plain: Sender, ruled: Sender) -> list[float]:
    """Of neighbouring windows, with the rules and without."""
    ruled.window()  # warm
    found = []
    for number in range(PAIRS):
        if number % 2:
            base = plain.window()
            found.append(ruled.window() / base)
        else:
            cost = ruled.window()
            found.append(cost / plain.window())
    return found


def main() -> None:
    """Print a line for each design and backend; exit code 1 if ours misses the gate."""
    build(PLAIN)
    build(RULED)
    plain, ruled = Sender(PLAIN), Sender(RULED)
    held = True
    print(f"a new packet against an established-accept rule only\n{HEADINGS}")
    for backend in (kernel.NFT, kernel.LEGACY):
        for host in (PLAIN, RULED):
            put(host, backend, BASE)
        tell(f"{backend}, the same rule on both hosts", ratios(plain, ruled))
        for edges in SIDES:
            govern(backend, edges)
            found = ratios(plain, ruled)
            held = tell(f"{backend}, {edges} edges", found, GATE, at_most=True) and held
        govern(backend, None)
        for number in NAIVE:
            put(RULED, backend, naive(number))
            tell(f"{backend}, {number} rules, one a pair", ratios(plain, ruled))
            put(RULED, backend, NONE)
        for host in (PLAIN, RULED):
            put(host, backend, ("*filter", "-F FORWARD", "COMMIT"))
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()

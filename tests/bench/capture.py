"""What the eBPF capture costs traffic, and its agent this machine.

`tests/apart .venv/bin/python tests/bench/capture.py [rounds]`. Two namespaces of one host talk
(iperf3, and connections of tests/bench/connect.c) while our program, a program that does nothing,
or none is attached, each for a short window, in random order. The machine's own noise is slower
than a round, so the median of the ratios says something on a busy machine too; a wide interval
says that it does not. The gates are about ours against none; against the other program one sees
what is due to what ours does, and what to being attached at all.
"""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ratios import HEADINGS, tell

from netwatch import wire
from netwatch.agent.attribution import Attribution
from netwatch.agent.flowtable import FlowTable
from netwatch.agent.learned import LearnedNames
from netwatch.agent.loop import Agent, Judge
from netwatch.agent.names import names_of
from netwatch.agent.processes import Processes
from netwatch.agent.verdicts import judge_of
from netwatch.capture.attach import EGRESS, INGRESS, attach_tcx
from netwatch.capture.ebpf import BURST
from netwatch.capture.libbpf import Object
from netwatch.capture.open import open_sensor
from netwatch.capture.sensor import Sensor
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.report import Enforcement
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Interface, Workload

WINDOW_S = 0.1
ROUNDS = 100
HERE = Path(__file__).parent
SERVER, PORT = "198.18.1.11", "7000"
LAB = f"""
hosts: [a]
workloads:
  - {{name: from, host: a, addresses: [198.18.1.10]}}
  - {{name: into, host: a, addresses: [{SERVER}]}}
"""
Count = Callable[[], int]
Settle = Callable[[], None]
RATE = 10_000  # connections a second for the agent
AGENT_S = 3


def main(rounds: int = ROUNDS) -> int:
    """Print the table; 1 if a gate is missed."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "lab.yaml").write_text(LAB)
        _compile(folder)
        _netwatch("lab", "up", str(folder / "lab.yaml"))
        stack.callback(_netwatch, "lab", "down")
        host = path_of_name("nwh-a")
        links = [i for i, name in inside(host, socket.if_nameindex) if name.startswith("veth")]
        sensor = open_sensor(namespace=host)
        stack.callback(sensor.close)
        print(f"\neBPF capture: rate with it / without, {rounds} rounds of {WINDOW_S:g} s windows")
        print(HEADINGS)
        held = True
        with _nothing(folder / "nothing.o", host, links) as nothing:
            for label, gate, load in (
                ("iperf3 TCP bytes", 0.97, _iperf("-t", "600")),
                ("64 B UDP packets", 0.93, _iperf("-u", "-l", "64", "-b", "0", "-t", "600")),
                ("new connections", 0.92, _connections(folder / "connect", 0)),
            ):
                with load as count:
                    states = _states(sensor, links, nothing)
                    rates = [_round(states, count) for _ in range(rounds)]
                held &= tell(label, [r["ours"] / r["none"] for r in rates], gate)
                tell("    against a program that does nothing", _of(rates, "ours", "nothing"))
                tell("    that program against none", _of(rates, "nothing", "none"))
        held &= _agent(sensor, links, folder, max(3, rounds // 12))
    return int(not held)


def _of(rates: Sequence[dict[str, float]], one: str, other: str) -> list[float]:
    return [each[one] / each[other] for each in rates]


def _compile(folder: Path) -> None:
    made = [
        ["gcc", "-O2", "-o", folder / "connect", HERE / "connect.c"],
        ["clang", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{os.uname().machine}-linux-gnu"]
        + ["-c", HERE / "nothing.bpf.c", "-o", folder / "nothing.o"],
    ]
    for command in made:
        subprocess.run(command, check=True, timeout=60)


@contextmanager
def _nothing(file: Path, host: Path, links: Sequence[int]) -> Iterator[Callable[[], Settle]]:
    """A function that attaches the program that does nothing where ours would be."""
    loaded = Object(file, {})
    program = loaded.program("nothing")

    def attach() -> Settle:
        points = [(link, point) for link in links for point in (INGRESS, EGRESS)]
        done = inside(host, lambda: [attach_tcx(program, *each) for each in points])
        return lambda: inside(host, lambda: [each.detach() for each in done] and None)

    try:
        yield attach
    finally:
        loaded.close()


def _states(
    sensor: Sensor, links: Sequence[int], nothing: Callable[[], Settle]
) -> dict[str, Callable[[], Settle]]:
    """Each attaches what it is called after, and returns what takes that away."""

    def ours() -> Settle:
        sensor.watch(links, [])
        sensor.read()
        return lambda: sensor.watch([], [])

    return {"ours": ours, "nothing": nothing, "none": lambda: lambda: None}


def _round(states: dict[str, Callable[[], Settle]], count: Count) -> dict[str, float]:
    """The rate in each state, in a random order."""
    rates = {}
    for name in random.sample(sorted(states), len(states)):
        settle = states[name]()
        rates[name] = _rate(count, WINDOW_S)
        settle()
    return rates


def _rate(count: Count, seconds: float) -> float:
    began, before = time.perf_counter(), count()
    time.sleep(seconds)
    return (count() - before) / (time.perf_counter() - began)


def _agent(sensor: Sensor, links: Sequence[int], folder: Path, windows: int) -> bool:
    """The CPU of this process while it is an agent and nothing else: its whole round, and sensor
    and flow table alone. It begins when what may come in a burst is used up."""
    sensor.watch(links, [])
    with _connections(folder / "connect", RATE) as count:
        time.sleep(BURST / RATE + 2)
        snapshot = Snapshot("a", tuple(_workloads(links)))
        rounds = {
            "whole round": _whole(sensor, snapshot),
            "sensor and flow table": _part(sensor, snapshot),
        }
        shares: dict[str, list[float]] = {name: [] for name in rounds}
        rates, flows = [], 0
        for _ in range(windows):
            for name, each in rounds.items():
                each()  # what came while the other one was measured
                began, before, cpu = time.perf_counter(), count(), time.process_time()
                for _ in range(AGENT_S):
                    time.sleep(1)
                    flows += each()
                seconds = time.perf_counter() - began
                shares[name].append((time.process_time() - cpu) / seconds * 100)
                rates.append((count() - before) / seconds)
    sensor.watch([], [])
    middle = statistics.median(rates)
    told = f"{windows} windows of {AGENT_S} s each, {flows} flows"
    print(f"\nCPU of an agent at {middle:.0f} connections/s, % of a core, {told}")
    held = tell("its whole round", shares["whole round"], 5.0, at_most=True)
    tell("    of that sensor and flow table", shares["sensor and flow table"])
    return held


def _workloads(links: Sequence[int]) -> Iterator[Workload]:
    for name, address, link in zip(("from", "into"), ("198.18.1.10", SERVER), links, strict=True):
        command = ["ip", "netns", "pids", f"nw-{name}"]
        said = subprocess.run(command, check=True, timeout=60, stdout=subprocess.PIPE, text=True)
        pid = int(said.stdout.split()[0])
        interfaces = (Interface(name, link),)
        yield Workload("a", "", name, "lab", addresses=(address,), interfaces=interfaces, pid=pid)


class _Still:
    """A source of workloads that never change."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def start(self, changed: Callable[[], None]) -> None:
        """Nothing will change."""

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def close(self) -> None:
        """Nothing to give back."""


def _whole(sensor: Sensor, snapshot: Snapshot) -> Count:
    """A round with names, processes, verdicts, and the report packed."""

    def judged(known: Snapshot, now: int) -> tuple[Enforcement, Judge]:
        return Enforcement(), judge_of((), known, now)

    agent = Agent(
        _Still(snapshot),
        sensor,
        wire.pack,
        judged,
        interval_s=1,
        attribution=Attribution(Processes(), LearnedNames(), own=os.getpid()),
    )
    agent.start(time.time_ns())
    return lambda: len(agent.tick(time.time_ns()).flows)


def _part(sensor: Sensor, snapshot: Snapshot) -> Count:
    names, table = names_of(snapshot), FlowTable("a")

    def fold() -> int:
        told = len(table.fold(sensor.read(), names, time.time_ns()))
        for connection in table.finished():
            sensor.classified(connection)
        return told

    return fold


def _netwatch(*arguments: str) -> None:
    program = [sys.executable, "-m", "netwatch", *arguments]
    subprocess.run(program, check=True, timeout=60, stderr=subprocess.DEVNULL)


@contextmanager
def _iperf(*arguments: str) -> Iterator[Count]:
    """Traffic; counts the bytes that came in."""
    with ExitStack() as stack:
        receiver = _start(stack, "into", "iperf3", "-s", "-1")
        _wait_until(lambda: "1451" in Path(f"/proc/{receiver}/net/tcp6").read_text())
        _start(stack, "from", "iperf3", "-c", SERVER, *arguments)
        began = _received(receiver)
        _wait_until(lambda: _received(receiver) > began + 1_000_000)
        yield lambda: _received(receiver)


@contextmanager
def _connections(program: Path, rate: int) -> Iterator[Count]:
    """Connections; counts those that the caller opened."""
    with ExitStack() as stack:
        _start(stack, "into", str(program), "serve", PORT)
        time.sleep(0.2)
        caller = _start(stack, "from", str(program), "call", SERVER, PORT, str(rate))
        _wait_until(lambda: _opened(caller) > 1000)
        yield lambda: _opened(caller)


def _start(stack: ExitStack, where: str, *command: str) -> int:
    """Runs until the stack unwinds; its pid (`ip netns exec` becomes it)."""
    whole = ["ip", "netns", "exec", f"nw-{where}", *command]
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process.pid


def _wait_until(fact: Callable[[], bool], deadline_s: float = 10.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not fact():
        if time.monotonic() > deadline:
            sys.exit("the load does not start: is iperf3 installed?")
        time.sleep(0.05)


def _received(pid: int) -> int:
    """Bytes that came in by the receiver's link, as its own namespace counts them."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "eth0":
            return int(counters.split()[0])
    return 0


def _opened(pid: int) -> int:
    """Connections that were established in the caller's namespace (ActiveOpens of RFC 4022)."""
    lines = Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
    head, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[head.index("ActiveOpens")])


if __name__ == "__main__":
    sys.exit(main(*(int(text) for text in sys.argv[1:])))

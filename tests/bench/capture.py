"""What the eBPF program costs: `tests/apart python tests/bench/capture.py [pairs]`.

It is switched on and off in running traffic, many times. One stream runs through a bridge between
two namespaces all the while; what arrived in each short window is read from the receiving link's
own counters. Neighbouring windows share whatever else the machine does, so the median of their
ratios says something on a busy machine too; a wide interval says that it does not.
"""

from __future__ import annotations

import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netwatch.capture.open import open_sensor
from netwatch.capture.sensor import Sensor
from netwatch.kernel.namespaces import inside, path_of_name

WINDOW_S = 0.1
PAIRS = 100
SEED = 7
LAB = """
hosts: [a]
workloads:
  - {name: from, host: a, addresses: [198.18.1.10]}
  - {name: into, host: a, addresses: [198.18.1.11]}
"""
LOADS = (  # name, arguments of iperf3, gate
    ("iperf3 TCP bytes", ("-t", "600"), 0.97),
    ("64 B UDP packets", ("-u", "-l", "64", "-b", "0", "-t", "600"), 0.93),
)


def main(pairs: int) -> None:
    """Print one line a load."""
    print(f"\neBPF capture: throughput with / without, {pairs} pairs of {WINDOW_S:g} s windows")
    print(f"{'load':<20}{'median':>8}  {'95 % interval':<18}{'gate':>6}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lab.yaml"
        file.write_text(LAB)
        _netwatch("lab", "up", str(file))
        try:
            _measure(pairs)
        finally:
            _netwatch("lab", "down")


def _measure(pairs: int) -> None:
    host = path_of_name("nwh-a")
    indexes = [i for i, name in inside(host, socket.if_nameindex) if name.startswith("veth")]
    sensor = open_sensor(namespace=host)
    try:
        for name, arguments, gate in LOADS:
            with _stream(arguments) as receiver:
                ratios = [_pair(sensor, indexes, receiver) for _ in range(pairs)]
            low, high = interval(ratios)
            middle = statistics.median(ratios)
            passed = "" if low >= gate else "  inconclusive" if high >= gate else "  MISSED"
            print(f"{name:<20}{middle:>8.3f}  {low:.3f} to {high:<10.3f}{gate:>6}{passed}")
    finally:
        sensor.close()


def interval(values: list[float], *, rounds: int = 2000) -> tuple[float, float]:
    """The bootstrapped 95 % interval of the median."""
    chosen = random.Random(SEED)
    medians = sorted(
        statistics.median(chosen.choices(values, k=len(values))) for _ in range(rounds)
    )
    return medians[rounds // 40], medians[-rounds // 40]


def _netwatch(*arguments: str) -> None:
    program = [sys.executable, "-m", "netwatch", *arguments]
    subprocess.run(program, check=True, timeout=60, stderr=subprocess.DEVNULL)


@contextmanager
def _stream(arguments: tuple[str, ...]) -> Iterator[int]:
    """Traffic; yields the pid of the receiver (`ip netns exec` becomes it)."""

    def start(where: str, *more: str) -> subprocess.Popen[bytes]:
        command = ["ip", "netns", "exec", where, "iperf3", *more]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    receiver = start("nw-into", "-s", "-1")
    sender = None
    try:
        _wait_until(lambda: "1451" in Path(f"/proc/{receiver.pid}/net/tcp6").read_text())
        sender = start("nw-from", "-c", "198.18.1.11", *arguments)
        began = _received(receiver.pid)
        _wait_until(lambda: _received(receiver.pid) > began + 1_000_000)
        yield receiver.pid
    finally:
        for process in (sender, receiver):
            if process is not None:
                process.kill()
                process.wait()


def _wait_until(fact: object, deadline_s: float = 10.0) -> None:
    assert callable(fact)
    deadline = time.monotonic() + deadline_s
    while not fact():
        if time.monotonic() > deadline:
            sys.exit("iperf3 does not start: is it installed?")
        time.sleep(0.05)


def _pair(sensor: Sensor, indexes: list[int], receiver: int) -> float:
    """Rate with, divided by rate without, in a random order."""
    rates = {}
    for attached in random.sample((True, False), 2):
        sensor.watch(indexes if attached else [], [])
        sensor.read()
        rates[attached] = _rate(receiver)
    return rates[True] / rates[False]


def _rate(receiver: int) -> float:
    began, before = time.perf_counter(), _received(receiver)
    time.sleep(WINDOW_S)
    return (_received(receiver) - before) / (time.perf_counter() - began)


def _received(pid: int) -> int:
    """Bytes that came in by the receiver's link, as its own namespace counts them."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "eth0":
            return int(counters.split()[0])
    return 0


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)

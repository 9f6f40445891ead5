"""How long edges take, from documents to what was read back from the kernel, and naive ways.

Run it apart, as root: `tests/apart .venv/bin/python tests/bench/apply.py [--json]`. 100 clients
and 100 servers with one port make 10,000 members; each backend is measured five times, cold.
Beside that: the same pairs as one rule each, in one restore, and 1,000 of them rule by rule with
python-iptables, as its manual shows it (a commit for each rule).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from netwatch.enforce import kernel, writers
from netwatch.enforce.compile import compile
from netwatch.enforce.plan import NOTHING, plan
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Label, Workload
from netwatch.policy.ir import (
    Mode,
    Operator,
    Place,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Selector,
    WorkloadPeer,
)

SIDE = 100
REPEATS = 5
NAIVE = 1_000  # pairs of the designs that are beside ours: rule by rule is quadratic
HERE = Place("bench", 1, 1)


def estate() -> Snapshot:
    """SIDE clients and SIDE servers on one bridge."""
    workloads = tuple(
        Workload(
            "a",
            "x",
            f"{role}{number}",
            "bench",
            labels=(Label("role", role, "bench"),),
            addresses=(f"198.18.{subnet}.{number + 10}",),
            networks=("lab",),
        )
        for subnet, role in ((0, "client"), (1, "server"))
        for number in range(SIDE)
    )
    network = Network("lab", "bridge", "br0", ("198.18.0.0/23",), ("198.18.0.1",))
    return Snapshot("a", workloads, (network,), addresses=("198.18.0.1",))


def document() -> Policy:
    """Servers let clients in on one port."""

    def role(name: str) -> Selector:
        return Selector((Requirement("role", Operator.IN, frozenset({name})),))

    rule = Rule(HERE, (WorkloadPeer(role("client")),), (PortSpec("tcp", 80, 80),))
    return Policy(
        "NetworkPolicy",
        "servers",
        "x",
        role("server"),
        Mode.ENFORCE,
        HERE,
        isolates_ingress=True,
        ingress=(rule,),
    )


def clear(backend: str) -> None:
    """As before: nothing of ours."""
    kernel.carry_out(plan(NOTHING, kernel.read(backend)), backend)


def cold(backend: str, snapshot: Snapshot) -> dict[str, float]:
    """One cold apply in its parts, in ms, ending with a read-back that finds no difference."""
    start = time.perf_counter()
    ruleset = compile((document(),), snapshot, now=0)
    compiled = time.perf_counter()
    kernel.carry_out(plan(ruleset, kernel.read(backend)), backend)
    written = time.perf_counter()
    assert plan(ruleset, kernel.read(backend)).empty
    end = time.perf_counter()
    return {
        "compile_ms": (compiled - start) * 1000,
        "write_ms": (written - compiled) * 1000,
        "read_back_ms": (end - written) * 1000,
        "total_ms": (end - start) * 1000,
    }


RULE_BY_RULE = """
import iptc, sys
table = iptc.Table(iptc.Table.FILTER)
chain = table.create_chain("NAIVE")
for pair in sys.stdin.read().split():
    source, destination = pair.split(",")
    rule = iptc.Rule()
    rule.src, rule.dst, rule.protocol = source, destination, "tcp"
    rule.create_match("tcp").dport = "80"
    rule.target = iptc.Target(rule, "RETURN")
    chain.append_rule(rule)
"""


def pairs(number: int) -> list[tuple[str, str]]:
    """Addresses of clients and servers, every client with every server."""
    ends = estate().workloads
    every = [(c.addresses[0], s.addresses[0]) for c in ends[:SIDE] for s in ends[SIDE:]]
    return every[:number]


def one_rule_a_pair(backend: str, number: int) -> float:
    """The same permissions as a rule each, written by one restore, in ms."""
    lines = [
        f"-A NAIVE -s {source} -d {destination} -p tcp --dport 80 -j RETURN"
        for source, destination in pairs(number)
    ]
    start = time.perf_counter()
    whole = ("*filter", ":NAIVE - [0:0]", *lines, "COMMIT")
    writers.Restore(backend).restore(4, whole, check_only=False)
    kernel.saved(backend, 4)
    took = time.perf_counter() - start
    empty = ("*filter", ":NAIVE - [0:0]", "-X NAIVE", "COMMIT")
    writers.Restore(backend).restore(4, empty, check_only=False)
    return took * 1000


def rule_by_rule(number: int) -> float | None:
    """The same by python-iptables with its default, a commit a rule, in ms; None without it."""
    if not writers.installed():
        return None
    feed = "\n".join(",".join(pair) for pair in pairs(number))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", RULE_BY_RULE], input=feed, text=True, check=True)
    took = time.perf_counter() - start
    empty = ("*filter", ":NAIVE - [0:0]", "-X NAIVE", "COMMIT")
    writers.Restore(kernel.LEGACY).restore(4, empty, check_only=False)
    return took * 1000


def main() -> None:
    """Print a line for each backend, or JSON."""
    snapshot = estate()
    edges = SIDE * SIDE
    found = {}
    for backend in (kernel.NFT, kernel.LEGACY):
        runs = []
        for _ in range(REPEATS):
            runs.append(cold(backend, snapshot))
            clear(backend)
        found[backend] = {
            key: round(statistics.median(run[key] for run in runs), 1) for key in runs[0]
        }
    naive = {
        f"{number} pairs, {backend}, one restore": one_rule_a_pair(backend, number)
        for backend in (kernel.NFT, kernel.LEGACY)
        for number in (NAIVE, edges)
    }
    slow = rule_by_rule(NAIVE)
    if slow is not None:
        naive[f"{NAIVE} pairs, python-iptables, rule by rule"] = slow
    if "--json" in sys.argv:
        whole = {"edges": edges, "median_of": REPEATS, "backends": found, "one_rule_a_pair": naive}
        print(json.dumps({"ok": True, **whole}))
        return
    for backend, times in found.items():
        told = ", ".join(f"{key.removesuffix('_ms')} {value} ms" for key, value in times.items())
        print(f"{edges} edges, {backend}: {told} (median of {REPEATS})")
    for name, took in naive.items():
        print(f"naive, one rule a pair: {name}: {took:.0f} ms")


if __name__ == "__main__":
    main()

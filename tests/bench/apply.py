"""How long 10,000 edges take, from documents to what was read back from the kernel.

Run it apart, as root: `tests/apart .venv/bin/python tests/bench/apply.py [--json]`. 100 clients
and 100 servers with one port make 10,000 members; each backend is measured five times, cold.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from netwatch.enforce import kernel
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
    if "--json" in sys.argv:
        print(json.dumps({"ok": True, "edges": edges, "median_of": REPEATS, "backends": found}))
        return
    for backend, times in found.items():
        told = ", ".join(f"{key.removesuffix('_ms')} {value} ms" for key, value in times.items())
        print(f"{edges} edges, {backend}: {told} (median of {REPEATS})")


if __name__ == "__main__":
    main()

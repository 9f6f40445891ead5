"""The truth tables of other projects, tried on the kernel: one estate takes every case's identity.

Workloads keep their links and addresses; what a step of a case changes is what discovery reads of
them: name, namespace, labels, ports. A relabelled workload is so a relabelled one for the rules.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netwatch.enforce.ends import world_of
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import DocumentedPort, Label, Workload
from netwatch.policy.evaluate import Judge
from netwatch.policy.files import read_policies
from tests.netns import agreement
from tests.netns.agreement import Call
from tests.netns.conftest import run_netwatch

pytestmark = pytest.mark.netns

TABLES = Path(__file__).parents[3] / "shared/data/policy"
PLACE = Path("/run/netwatch/lab")
SERVED = (("tcp", 80), ("tcp", 81), ("tcp", 8080), ("udp", 80), ("udp", 81))
SERVED += (("udp", 53), ("udp", 5353))
WITHOUT_SCTP = (("tcp", 80), ("udp", 53))  # asked in every case, of `decide` too
SAMPLE = int(os.environ.get("NETWATCH_PROOF_CASES", "8"))
MOST = 10  # workloads of one case

Case = dict[str, Any]


def cases() -> list[Case]:
    """Every case as steps of documents, workloads and expected answers."""
    if not TABLES.exists():
        return []
    tables = json.loads((TABLES / "network_policy.json").read_text())
    tiers = json.loads((TABLES / "cluster_network_policy.json").read_text())
    return tables + [{"id": case["id"], "steps": [case]} for case in tiers]


def drawn() -> list[Case]:
    """A sample that is the same each time; all of them in `make proof`."""
    every = cases()
    return random.Random(5).sample(every, min(SAMPLE, len(every)))


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """One host with as many workloads as the largest case, each with every server."""
    if not TABLES.exists():
        pytest.skip(f"no truth tables in {TABLES}")
    listen = [{"port": port, "protocol": name, "serve": "echo"} for name, port in SERVED]
    workloads = [{"name": f"w{n}", "host": "a", "listen": listen} for n in range(MOST)]
    file = tmp_path_factory.mktemp("tables") / "lab.json"
    file.write_text(json.dumps({"hosts": ["a"], "workloads": workloads}))
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    (found,) = agreement.snapshots()
    yield found
    assert run_netwatch("lab", "down").code == 0


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest, estate: Snapshot) -> Iterator[str]:
    """What the rules are written with; they are taken away afterwards."""
    yield str(request.param)
    said = agreement.at("a", "remove")
    assert said.code == 0, said.err


@pytest.mark.parametrize("case", drawn(), ids=lambda case: case["id"])
def test_the_kernel_holds_the_truth_table(
    case: Case, backend: str, estate: Snapshot, tmp_path: Path
) -> None:
    """Each step is applied over the one before; every TCP and UDP cell is tried."""
    file = tmp_path / "policies.json"
    for step in case["steps"]:
        known = dressed(estate, step["topology"])
        (PLACE / "a.json").write_bytes(msgspec.json.encode(known))
        addresses = translation(estate, step["topology"]["pods"])
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": step["policies"]})
        for theirs, ours in addresses.items():
            text = text.replace(f'"{theirs}/', f'"{ours}/')
        file.write_text(text.replace('"10.244.0.0/16"', f'"{known.networks[0].subnets[0]}"'))
        said = agreement.at("a", "apply", "--backend", backend, "--policies", str(file))
        assert said.code == 0, said.err
        expected = stated(step, known.workloads)
        judge = Judge(read_policies([file]), world_of(known))
        for call in agreement.possible([known], WITHOUT_SCTP):
            expected.setdefault(call, call.permitted(judge))
        calls = list(expected)
        found = dict(zip(calls, agreement.answers(calls, [known]), strict=True))
        wrong = {str(call): open_ for call, open_ in found.items() if open_ is not expected[call]}
        assert wrong == {}, case["id"]


def translation(estate: Snapshot, pods: list[dict[str, Any]]) -> dict[str, str]:
    """The case's addresses and those of the workloads that play them."""
    pairs = zip(pods, estate.workloads, strict=False)
    return {pod["ip"]: workload.addresses[0] for pod, workload in pairs}


def dressed(estate: Snapshot, topology: dict[str, Any]) -> Snapshot:
    """The estate with the identities of a case; the workloads that it lacks are not there."""
    pairs = zip(topology["pods"], estate.workloads, strict=False)
    spaces = tuple(
        (name, tuple(sorted({"kubernetes.io/metadata.name": name, **labels}.items())))
        for name, labels in topology["namespaces"].items()
    )
    return replace(estate, workloads=tuple(_playing(*pair) for pair in pairs), namespaces=spaces)


def _playing(pod: dict[str, Any], workload: Workload) -> Workload:
    return replace(
        workload,
        name=pod["name"],
        namespace=pod["namespace"],
        labels=tuple(Label(key, value, "lab") for key, value in pod["labels"].items()),
        ports=tuple(
            DocumentedPort(port["port"], port["protocol"].lower(), "lab", port["name"])
            for port in pod["ports"]
        ),
    )


def stated(step: dict[str, Any], workloads: tuple[Workload, ...]) -> dict[Call, bool]:
    """What the table says of each call over TCP or UDP, IPv4: the table has no other addresses."""
    named = {f"{w.namespace}/{w.name}": w for w in workloads}
    found: dict[Call, bool] = {}

    def state(source: str, target: str, protocol: str, port: int, *, open_: bool) -> None:
        """A call of a workload to itself never leaves it, so no rule is asked."""
        ends = named[source], named[target]
        if source != target and protocol != "SCTP":
            found[Call(*ends, ends[1].addresses[0], protocol.lower(), port)] = open_

    for probe in step["probes"]:
        if "matrix" not in probe:
            ends = probe["src"], probe["dst"]
            state(*ends, probe["protocol"], probe["port"], open_=probe["allowed"])
            continue
        for source, row in zip(probe["order"], probe["matrix"], strict=True):
            for target, cell in zip(probe["order"], row, strict=True):
                if cell in ("0", "1"):
                    state(source, target, probe["protocol"], probe["port"], open_=cell == "1")
    return found

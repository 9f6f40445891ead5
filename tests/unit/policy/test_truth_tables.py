"""The truth tables of the shared data, through `decide` and through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from netwatch.policy.document import parse
from netwatch.policy.evaluate import decide
from netwatch.policy.ir import Party
from netwatch.policy.world import parse_world

from .worlds import shared

CASES = shared("policy/network_policy.json")
TIER_CASES = shared("policy/cluster_network_policy.json")


def _world(topology: dict[str, Any]) -> str:
    workloads = [
        {
            "namespace": pod["namespace"],
            "name": pod["name"],
            "labels": pod["labels"],
            "addresses": [pod["ip"]],
            "ports": pod["ports"],
        }
        for pod in topology["pods"]
    ]
    return json.dumps({"namespaces": topology["namespaces"], "workloads": workloads})


def _documents(step: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": step["policies"]})


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_decide_gives_the_published_truth_table(case: dict[str, Any]) -> None:
    """Every judged cell is as upstream expects: nothing allowed falsely, nothing denied so."""
    judged = 0
    for step in case["steps"]:
        policies = parse(_documents(step), "case.json")
        world = parse_world(_world(step["topology"]), "world.json")
        by_key = {workload.key: workload for workload in world.workloads}
        for probe in step["probes"]:
            for source, row in zip(probe["order"], probe["matrix"], strict=True):
                for destination, wanted in zip(probe["order"], row, strict=True):
                    if wanted == "-" or (source == destination and probe["ignore_loopback"]):
                        continue
                    ends = Party(by_key[source]), Party(by_key[destination])
                    decision = decide(
                        policies, world, *ends, probe["protocol"].lower(), probe["port"]
                    )
                    judged += 1
                    assert decision.verdict == {"1": "allow", "0": "deny"}[wanted], decision.reason
    assert judged > 0


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_matrix_command_prints_the_published_truth_table(
    case: dict[str, Any], tmp_path: Path
) -> None:
    """What `netwatch policy matrix --json` prints equals the table, diagonal apart."""
    for step in case["steps"]:
        spot, tables = _printed(step, tmp_path)
        for probe in step["probes"]:
            table = tables[_name(probe)]
            for source, row in zip(probe["order"], probe["matrix"], strict=True):
                for destination, wanted in zip(probe["order"], row, strict=True):
                    if source == destination and probe["ignore_loopback"]:
                        continue
                    assert table[spot[source]][spot[destination]] == wanted


def _printed(case: dict[str, Any], folder: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """The place of each workload, and the rows for each probe, as the command tells them."""
    world, documents = folder / "world.json", folder / "documents.json"
    world.write_text(_world(case["topology"]))
    documents.write_text(_documents(case))
    names = list(dict.fromkeys(map(_name, case["probes"])))
    asked = [word for name in names for word in ("--probe", name)]
    arguments = ["matrix", "--world", str(world), "--policies", str(documents), *asked]
    result = CliRunner().invoke(command, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.output)
    tables = {table["probe"]: table["rows"] for table in answer["probes"]}
    assert (answer["ok"], list(tables)) == (True, names)
    return {key: index for index, key in enumerate(answer["order"])}, tables


def _name(probe: dict[str, Any]) -> str:
    return f"{probe['protocol'].lower()}/{probe['port']}"


@pytest.mark.parametrize("case", TIER_CASES, ids=[case["id"] for case in TIER_CASES])
def test_decide_gives_the_published_answers_of_the_tiers(case: dict[str, Any]) -> None:
    """Every probe of a ClusterNetworkPolicy case is as upstream expects."""
    policies = parse(_documents(case), "case.json")
    world = parse_world(_world(case["topology"]), "world.json")
    by_key = {workload.key: workload for workload in world.workloads}
    for probe in case["probes"]:
        ends = Party(by_key[probe["src"]]), Party(by_key[probe["dst"]])
        decision = decide(policies, world, *ends, probe["protocol"].lower(), probe["port"])
        assert (decision.verdict == "allow") is probe["allowed"], decision.reason
    assert case["probes"]


@pytest.mark.parametrize("case", TIER_CASES, ids=[case["id"] for case in TIER_CASES])
def test_the_matrix_command_gives_the_published_answers_of_the_tiers(
    case: dict[str, Any], tmp_path: Path
) -> None:
    """What `netwatch policy matrix --json` prints holds every probe of the case."""
    spot, tables = _printed(case, tmp_path)
    for probe in case["probes"]:
        cell = tables[_name(probe)][spot[probe["src"]]][spot[probe["dst"]]]
        assert cell == "01"[probe["allowed"]]

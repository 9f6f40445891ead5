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
    for number, step in enumerate(case["steps"]):
        world = tmp_path / "world.json"
        world.write_text(_world(step["topology"]))
        documents = tmp_path / f"{number}.json"
        documents.write_text(_documents(step))
        for probe in step["probes"]:
            asked = f"{probe['protocol'].lower()}/{probe['port']}"
            arguments = ["matrix", "--world", world, "--policies", documents, "--probe", asked]
            result = CliRunner().invoke(command, [*map(str, arguments), "--json"])
            assert result.exit_code == 0, result.output
            answer = json.loads(result.output)
            (table,) = answer["probes"]
            assert (answer["ok"], table["probe"]) == (True, asked)
            spot = {key: index for index, key in enumerate(answer["order"])}
            for source, row in zip(probe["order"], probe["matrix"], strict=True):
                for destination, wanted in zip(probe["order"], row, strict=True):
                    if source == destination and probe["ignore_loopback"]:
                        continue
                    assert table["rows"][spot[source]][spot[destination]] == wanted


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
    world, documents = tmp_path / "world.json", tmp_path / "documents.json"
    world.write_text(_world(case["topology"]))
    documents.write_text(_documents(case))
    for probe in case["probes"]:
        asked = f"{probe['protocol'].lower()}/{probe['port']}"
        arguments = ["matrix", "--world", world, "--policies", documents, "--probe", asked]
        result = CliRunner().invoke(command, [*map(str, arguments), "--json"])
        assert result.exit_code == 0, result.output
        answer = json.loads(result.output)
        spot = {key: index for index, key in enumerate(answer["order"])}
        cell = answer["probes"][0]["rows"][spot[probe["src"]]][spot[probe["dst"]]]
        assert cell == "01"[probe["allowed"]]

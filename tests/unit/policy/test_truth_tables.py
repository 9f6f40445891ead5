"""The truth tables of the shared data through `decide`, and their text for other tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netwatch.policy.document import parse
from netwatch.policy.evaluate import decide
from netwatch.policy.ir import Party
from netwatch.policy.world import parse_world

from .worlds import shared

CASES = shared("policy/network_policy.json")
TIER_CASES = shared("policy/cluster_network_policy.json")


def world_text(topology: dict[str, Any]) -> str:
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


def documents_text(step: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": step["policies"]})


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_decide_gives_the_published_truth_table(case: dict[str, Any]) -> None:
    """Every judged cell is as upstream expects: nothing allowed falsely, nothing denied so."""
    judged = 0
    for step in case["steps"]:
        policies = parse(documents_text(step), "case.json")
        world = parse_world(world_text(step["topology"]), "world.json")
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


@pytest.mark.parametrize("case", TIER_CASES, ids=[case["id"] for case in TIER_CASES])
def test_decide_gives_the_published_answers_of_the_tiers(case: dict[str, Any]) -> None:
    """Every probe of a ClusterNetworkPolicy case is as upstream expects."""
    policies = parse(documents_text(case), "case.json")
    world = parse_world(world_text(case["topology"]), "world.json")
    by_key = {workload.key: workload for workload in world.workloads}
    for probe in case["probes"]:
        ends = Party(by_key[probe["src"]]), Party(by_key[probe["dst"]])
        decision = decide(policies, world, *ends, probe["protocol"].lower(), probe["port"])
        assert (decision.verdict == "allow") is probe["allowed"], decision.reason
    assert case["probes"]

"""What goes to another system and comes back decides the same, or was refused by name."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netwatch.model.errors import NetwatchError
from netwatch.policy.difference import difference
from netwatch.policy.document import parse
from netwatch.policy.evaluate import Judge
from netwatch.policy.export import to_calico, to_cilium, to_kubernetes, to_netwatch
from netwatch.policy.importing import read_foreign
from netwatch.policy.ir import Party, Policy, World
from netwatch.policy.writing import as_text
from tests.property.test_policy_laws import DOCUMENTS, TIERS, WORKLOADS, WORLD

NOW = 1_795_315_200_000_000_000
PARTIES = [Party(w, w.addresses[0]) for w in WORKLOADS]
PARTIES += [Party(host=True), Party(address="203.0.113.7"), Party(address="2001:db8::7")]
CALLS = [("tcp", 80), ("tcp", 85), ("udp", 53), ("udp", 55), ("icmp", None)]
FORMS = {
    "netwatch": lambda policies, world: to_netwatch(policies),
    "kubernetes": to_kubernetes,
    "calico": to_calico,
    "cilium": to_cilium,
}


def _load(documents: list[dict[str, Any]]) -> tuple[Policy, ...]:
    return parse(json.dumps(documents), "drawn.json")


def _verdicts(policies: tuple[Policy, ...], world: World) -> dict[object, str]:
    judge = Judge(policies, world)
    return {
        (_named(one), _named(other), *what): judge.decide(one, other, *what, now=NOW).verdict
        for one, other, what in product(PARTIES, PARTIES, CALLS)
    }


def _named(party: Party) -> str:
    return party.workload.key if party.workload else party.address or "host"


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@example(
    documents=[
        {
            "apiVersion": "netwatch/v1",
            "kind": "Segment",
            "metadata": {"name": "s", "namespace": "x"},
            "spec": {"governs": {}, "rules": [{"from": "198.18.0.2/32"}]},
        }
    ],
    tiers=[],
    mixed=False,
)
@given(documents=DOCUMENTS, tiers=TIERS, mixed=st.booleans())
def test_what_another_form_says_comes_back_with_every_verdict(form, documents, tiers, mixed):
    """Or nothing is written and the error names the document, or every difference is told."""
    policies = _load([*documents, *(tiers if mixed else [])])
    try:
        text = FORMS[form](policies, WORLD)
    except NetwatchError as error:
        assert error.code == "no-equal" and any(p.title in error.message for p in policies)
        return
    again = read_foreign([(text, "exported.yaml")], WORLD)
    told = difference(policies, again, WORLD, now=NOW)
    before, after = _verdicts(policies, WORLD), _verdicts(again, WORLD)
    changed = {key for key in before if before[key] != after[key]}
    assert bool(changed) <= bool(told)
    if form == "netwatch":
        assert not told
    for change in told:  # the two reasons there are: the host goes in, a CIDR holds no pod
        host = change.kind == "gained" and change.sources == ("host",)
        assert host or (form == "cilium" and _has_networks(policies))
    parse(as_text(again), "imported.yaml")


def _has_networks(policies: tuple[Policy, ...]) -> bool:
    rules = [rule for policy in policies for rule in (*policy.ingress, *policy.egress)]
    return any(hasattr(peer, "cidr") for rule in rules for peer in rule.peers)

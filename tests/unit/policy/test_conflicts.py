"""Two documents of one priority must not be able to disagree; where they can, both are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netwatch.policy.document import parse
from netwatch.policy.fields import InvalidPolicies

from .test_tiers import EVERYBODY, HTTP, SHOP, rule

LABELLED = {"namespaces": {"matchLabels": {"env": "prod"}}}


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        pytest.param(rule("Accept"), rule("Deny"), True, id="the same calls"),
        pytest.param(rule("Accept"), rule("Accept"), False, id="of one mind"),
        pytest.param(rule("Pass"), rule("Deny"), True, id="Pass is an answer too"),
        pytest.param(rule("Accept"), rule("Deny", to=[EVERYBODY]), False, id="directions"),
        pytest.param(rule("Accept", protocols=HTTP), rule("Deny"), True, id="a port of all"),
        pytest.param(
            rule("Accept", protocols=HTTP),
            rule("Deny", protocols=[{"tcp": {"destinationPort": {"number": 81}}}]),
            False,
            id="other ports",
        ),
        pytest.param(
            rule("Accept", protocols=HTTP),
            rule("Deny", protocols=[{"udp": {"destinationPort": {"number": 80}}}]),
            False,
            id="another protocol",
        ),
        pytest.param(
            rule("Accept", protocols=HTTP),
            rule("Deny", protocols=[{"destinationNamedPort": "http"}]),
            True,
            id="a name could be that number",
        ),
        pytest.param(
            rule("Accept", SHOP),
            rule("Deny", {"namespaces": {"matchLabels": {"team": "money"}}}),
            False,
            id="no namespace is both",
        ),
        pytest.param(rule("Accept", SHOP), rule("Deny", LABELLED), True, id="one could be both"),
        pytest.param(
            rule("Accept", to=[{"networks": ["10.0.0.0/9"]}]),
            rule("Deny", to=[{"networks": ["10.128.0.0/9"]}]),
            False,
            id="networks apart",
        ),
        pytest.param(
            rule("Accept", to=[{"networks": ["10.0.0.0/8"]}]),
            rule("Deny", to=[{"networks": ["10.128.0.0/9"]}]),
            True,
            id="networks that share addresses",
        ),
    ],
)
def test_equal_priorities_that_disagree_are_an_error(
    one: dict[str, Any], other: dict[str, Any], conflict: bool
) -> None:
    """In one tier, whatever the order; another priority or another tier settles it."""
    first, second = (_document("a", one), _document("b", other))
    for documents in ([first, second], [second, first]):
        if not conflict:
            assert len(parse(json.dumps(documents), "two.json")) == 2
            continue
        with pytest.raises(InvalidPolicies) as caught:
            parse(json.dumps(documents), "two.json")
        assert len(caught.value.problems) == 1
        assert "priority 10" in caught.value.message
    later = json.loads(json.dumps(second))
    later["spec"]["priority"] = 11
    assert len(parse(json.dumps([first, later]), "two.json")) == 2
    later["spec"] |= {"priority": 10, "tier": "Baseline"}
    assert len(parse(json.dumps([first, later]), "two.json")) == 2


def test_a_rule_that_an_earlier_one_settles_conflicts_with_nobody() -> None:
    """Two documents that both accept web and deny the rest say one thing."""
    documents = [_document(name, rule("Accept", SHOP), rule("Deny")) for name in "ab"]
    assert len(parse(json.dumps(documents), "two.json")) == 2


def test_subjects_apart_never_conflict() -> None:
    """What no workload is subject to twice needs no order."""
    documents = [_document("a", rule("Accept")), _document("b", rule("Deny"))]
    documents[0]["spec"]["subject"] = SHOP
    documents[1]["spec"]["subject"] = {"namespaces": {"matchLabels": {"team": "money"}}}
    assert len(parse(json.dumps(documents), "two.json")) == 2


def _document(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"tier": "Admin", "priority": 10, "subject": EVERYBODY}
    for each in rules:
        spec.setdefault("ingress" if "from" in each else "egress", []).append(each)
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }

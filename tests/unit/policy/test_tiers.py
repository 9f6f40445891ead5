"""The tiers around the middle: who is asked first, and what passing on and isolation change."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from netwatch.policy.document import parse
from netwatch.policy.evaluate import Judge, decide
from netwatch.policy.ir import (
    Action,
    HostPeer,
    Mode,
    NamePeer,
    Party,
    Place,
    Policy,
    PortSpec,
    Rule,
    Tier,
)
from netwatch.policy.judgement import Direction

from .worlds import API, DB, HOST, OUTSIDE, PAY, ROGUE, WEB, WORLD, network_policy, segment

FROM_WEB, TO_DB = Party(WEB), Party(DB)
EVERYBODY = {"namespaces": {}}
SHOP = {"namespaces": {"matchLabels": {"team": "shop"}}}
HTTP = [{"tcp": {"destinationPort": {"number": 80}}}]


def rule(action: str, peer: dict[str, Any] = EVERYBODY, **others: Any) -> dict[str, Any]:
    """An ingress rule; with `to` in `others` it is one of egress."""
    end = {} if "to" in others else {"from": [peer]}
    return {"action": action, **end, **others}


def tier(name: str, *rules: dict[str, Any], **others: Any) -> tuple[Policy, ...]:
    """An Admin ClusterNetworkPolicy for everybody, of priority 10, unless `others` says else."""
    spec = {"tier": "Admin", "priority": 10, "subject": EVERYBODY, **others}
    for key, end in (("ingress", "from"), ("egress", "to")):
        if chosen := [each for each in rules if end in each]:
            spec[key] = chosen
    document = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }
    return parse(json.dumps(document), f"{name}.json")


def baseline(name: str, *rules: dict[str, Any], **others: Any) -> tuple[Policy, ...]:
    """A Baseline ClusterNetworkPolicy."""
    return tier(name, *rules, tier="Baseline", **others)


def ask(
    policies: tuple[Policy, ...],
    source: Party = FROM_WEB,
    destination: Party = TO_DB,
    port: int = 80,
) -> str:
    """The verdict on a TCP call."""
    return decide(policies, WORLD, source, destination, "tcp", port).verdict


OPEN = segment("governs: all\nrules: [{from: anyone}]")
CLOSED = network_policy("podSelector: {}")
DENIES = segment("governs: all\ningress: open\nrules: [{from: anyone, deny: true}]")
EXCEPTION = segment(
    "governs: all\nrules: [{from: anyone, exception: true, owner: me, expires: 2030-01-01}]", "e"
)


@pytest.mark.parametrize(
    ("policies", "verdict"),
    [
        pytest.param(tier("a", rule("Deny")) + OPEN, "deny", id="Admin Deny beats an allow"),
        pytest.param(tier("a", rule("Deny")) + EXCEPTION, "deny", id="and an exception"),
        pytest.param(tier("a", rule("Accept")) + CLOSED, "allow", id="Accept beats isolation"),
        pytest.param(tier("a", rule("Accept")) + DENIES, "allow", id="and a Segment's deny"),
        pytest.param(tier("a", rule("Pass")) + CLOSED, "deny", id="Pass leaves it to the middle"),
        pytest.param(tier("a", rule("Pass")) + OPEN, "allow", id="which may allow"),
        pytest.param(tier("a", rule("Pass"), rule("Deny")), "allow", id="Pass skips its tier"),
        pytest.param(
            tier("a", rule("Pass")) + tier("b", rule("Deny"), priority=11),
            "allow",
            id="of all documents",
        ),
        pytest.param(
            tier("a", rule("Pass")) + baseline("b", rule("Deny")),
            "deny",
            id="but not the Baseline tier",
        ),
        pytest.param(
            tier("a", rule("Deny"), priority=1) + tier("b", rule("Accept"), priority=0),
            "allow",
            id="the lower number is first",
        ),
        pytest.param(
            tier("a", rule("Deny", protocols=[{"tcp": {"destinationPort": {"number": 81}}}])),
            "allow",
            id="another port",
        ),
        pytest.param(baseline("b", rule("Deny")), "deny", id="Baseline denies what nobody says"),
        pytest.param(baseline("b", rule("Deny")) + OPEN, "allow", id="not what is allowed"),
        pytest.param(
            baseline("b", rule("Accept")) + CLOSED, "deny", id="nor opens what is isolated"
        ),
        pytest.param(
            baseline("b", rule("Deny")) + segment("governs: all\nrules: [{to: anyone}]"),
            "deny",
            id="isolation of egress is none of ingress",
        ),
        pytest.param(
            baseline("b", rule("Deny"))
            + segment("governs: all\ningress: open\nrules: [{from: {app: web}}]"),
            "allow",
            id="an allow that isolates nothing still permits",
        ),
        pytest.param(
            baseline("b", rule("Pass"), rule("Deny")), "allow", id="Baseline Pass ends it"
        ),
        pytest.param(
            tier("a", rule("Accept")) + tier("b", rule("Deny", to=[EVERYBODY]), priority=11),
            "deny",
            id="both ends must permit",
        ),
        pytest.param(
            tier("a", rule("Accept", to=[EVERYBODY])) + CLOSED,
            "deny",
            id="Accept of egress is none of ingress",
        ),
    ],
)
def test_the_order_of_the_tiers(policies: tuple[Policy, ...], verdict: str) -> None:
    """Admin by priority, then the middle, then Baseline where the middle does not isolate."""
    for each in permutations(policies):
        assert ask(each) == verdict


def test_a_workload_reaches_itself_whatever_the_admin_says() -> None:
    """A Deny for everybody denies it to everybody else."""
    policies = tier("a", rule("Deny"), rule("Deny", to=[EVERYBODY]))
    assert ask(policies, Party(WEB), Party(WEB)) == "allow"
    assert ask(policies, Party(API), Party(WEB)) == "deny"


def test_subjects_and_peers_are_chosen_by_namespace_labels() -> None:
    """`subject` and `from` name namespaces by their labels, and pods within them."""
    money = {"namespaceSelector": {"matchLabels": {"team": "money"}}, "podSelector": {}}
    policies = tier("a", rule("Deny", {"pods": money}), subject=SHOP)
    assert ask(policies, Party(PAY), Party(DB)) == "deny"
    assert ask(policies, Party(ROGUE), Party(DB)) == "allow"
    assert ask(policies, Party(PAY), Party(ROGUE)) == "allow"
    pods = {"pods": {"podSelector": {"matchLabels": {"app": "db"}}}}
    policies = tier("a", rule("Deny"), subject=pods)
    assert [ask(policies, Party(WEB), Party(to)) for to in (DB, API)] == ["deny", "allow"]


def test_what_shares_the_hosts_network_is_neither_subject_nor_peer() -> None:
    """As upstream: such a workload is the node."""
    shared = replace(ROGUE, host_network=True)
    policies = tier("a", rule("Deny"), rule("Deny", to=[EVERYBODY]))
    assert ask(policies, Party(shared), OUTSIDE) == "allow"
    assert ask(tier("a", rule("Deny")), Party(shared), Party(DB)) == "allow"


def test_the_host_is_let_in_by_the_middle_and_not_past_an_admin() -> None:
    """Implicitly allowed where only NetworkPolicy isolates; an Admin Deny overrides."""
    denies = Policy(
        "ClusterNetworkPolicy",
        "a",
        None,
        CLOSED[0].subject,
        Mode.ENFORCE,
        Place("a.json", 1, 1),
        ingress=(Rule(Place("a.json", 1, 1), (HostPeer(),), action=Action.DENY),),
        tier=Tier.ADMIN,
    )
    assert ask(CLOSED, HOST) == "allow"
    assert ask((*CLOSED, denies), HOST) == "deny"
    assert ask((*CLOSED, *tier("b", rule("Deny"))), HOST) == "allow"  # it is no namespace's


def test_named_ports_and_ranges_are_those_of_the_destination() -> None:
    """A name means what the destination calls so, for any protocol; a range holds its ends."""
    named = [{"destinationNamedPort": "https"}]
    policies = tier("a", rule("Deny", protocols=named))
    assert [ask(policies, port=port) for port in (443, 80)] == ["deny", "allow"]
    ranged = [{"tcp": {"destinationPort": {"range": {"start": 79, "end": 80}}}}]
    policies = tier("a", rule("Deny", protocols=ranged))
    assert [ask(policies, port=p) for p in (78, 79, 80, 81)] == ["allow", "deny", "deny", "allow"]
    assert decide(policies, WORLD, Party(WEB), Party(DB), "udp", 80).verdict == "allow"


def test_networks_hold_workloads_and_the_outside() -> None:
    """0.0.0.0/0 is every IPv4 address, workloads' included, unless they were passed before."""
    everything = rule("Deny", to=[{"networks": ["0.0.0.0/0", "::/0"]}])
    assert ask(tier("a", everything), destination=OUTSIDE) == "deny"
    assert ask(tier("a", everything)) == "deny"
    assert ask(tier("a", rule("Pass", to=[EVERYBODY]), everything)) == "allow"


@pytest.mark.parametrize(
    ("known", "asked", "verdict"),
    [
        pytest.param("www.example.com", "www.example.com", "allow", id="the name"),
        pytest.param("a.b.example.com", "*.example.com", "allow", id="any name below"),
        pytest.param("example.com", "*.example.com", "deny", id="not the name itself"),
        pytest.param("myexample.com", "*.example.com", "deny", id="nor one that ends so"),
        pytest.param("WWW.Example.COM.", "www.example.com", "allow", id="case and last dot"),
        pytest.param("other.example.com", "www.example.com", "deny", id="another name"),
    ],
)
def test_domain_names_are_the_addresses_that_the_world_knows(
    known: str, asked: str, verdict: str
) -> None:
    """Accept by name, deny the rest; an address that no name is known for is the rest."""
    policies = tier(
        "a",
        rule("Accept", to=[{"domainNames": [asked]}]),
        rule("Deny", to=[{"networks": ["0.0.0.0/0"]}]),
    )
    names = ((known.lower().rstrip("."), ("203.0.113.9",)),)
    judge = Judge(policies, replace(WORLD, names=names))
    assert judge.decide(Party(WEB), OUTSIDE, "tcp", 443).verdict == verdict
    assert judge.decide(Party(WEB), Party(address="203.0.113.10"), "tcp", 443).verdict == "deny"
    (first, _) = policies[0].egress
    assert first.peers == (NamePeer(asked),)


def test_the_reason_names_document_rule_and_side() -> None:
    """A person finds what decided."""
    policies = tier("deny-web", rule("Deny", name="no-web"))
    decision = decide(policies, WORLD, Party(WEB), Party(DB), "tcp", 80)
    assert decision.reason.startswith("ClusterNetworkPolicy deny-web denies shop/web to shop/db")
    assert (decision.rule.name, decision.side) == ("no-web", "destination")


def test_clauses_stand_in_the_order_of_judgement() -> None:
    """Admin by priority and place, exception, deny, allow, Baseline."""
    policies = (
        *baseline("z", rule("Deny")),
        *OPEN,
        *tier("b", rule("Pass"), rule("Deny"), priority=2),
        *tier("c", rule("Accept"), priority=1),
        *EXCEPTION,
        *segment("governs: all\nrules: [{from: anyone, deny: true}]", "d"),
    )
    clauses = Judge(policies, WORLD).clauses(Direction.INGRESS, DB)
    assert [(c.policy.name, str(c.rule.action)) for c in clauses] == [
        ("c", "allow"),
        ("b", "pass"),
        ("b", "deny"),
        ("e", "allow"),
        ("d", "deny"),
        ("e", "allow"),
        ("s", "allow"),
        ("z", "deny"),
    ]


ANCESTOR = """\
apiVersion: policy.networking.k8s.io/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec:
  {priority}
  subject: {{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: db}}}}}}}}
  ingress:
  - name: ports
    action: Allow
    from: [{{namespaces: {{matchLabels: {{team: shop}}}}}}]
    ports:
    - portNumber: {{protocol: TCP, port: 80}}
    - portRange: {{protocol: UDP, start: 50, end: 60}}
    - namedPort: https
  - action: Deny
    from: [{{namespaces: {{}}}}]
"""


@pytest.mark.parametrize(
    ("kind", "name", "priority", "equal"),
    [
        pytest.param("AdminNetworkPolicy", "a", "priority: 5", ("Admin", 5), id="Admin"),
        pytest.param("BaselineAdminNetworkPolicy", "default", "", ("Baseline", 1000), id="Base"),
    ],
)
def test_the_ancestors_are_read_as_their_equals(
    kind: str, name: str, priority: str, equal: tuple[str, int]
) -> None:
    """But for kind and places they become what the same ClusterNetworkPolicy becomes."""
    (read,) = parse(ANCESTOR.format(kind=kind, name=name, priority=priority), "a.yaml")
    (wanted,) = tier(
        name,
        rule(
            "Accept",
            SHOP,
            name="ports",
            protocols=[
                *HTTP,
                {"udp": {"destinationPort": {"range": {"start": 50, "end": 60}}}},
                {"destinationNamedPort": "https"},
            ],
        ),
        rule("Deny"),
        tier=equal[0],
        priority=equal[1],
        subject={"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}},
    )
    assert _unplaced(read) == _unplaced(replace(wanted, kind=kind))
    assert read.ingress[0].ports[2] == PortSpec(name="https")


def _unplaced(policy: Policy) -> Policy:
    here = Place("", 1, 1)
    rules = tuple(replace(rule, place=here) for rule in policy.ingress)
    return replace(policy, place=here, ingress=rules)

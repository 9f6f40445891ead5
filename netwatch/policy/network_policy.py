"""Reads the spec of a Kubernetes NetworkPolicy (networking.k8s.io/v1), exactly as upstream does.

The rules that the API server checks are checked here too, because a document that a cluster
refuses must not mean something on a host.
"""

from __future__ import annotations

from netwatch.policy import fields
from netwatch.policy.fields import Problems
from netwatch.policy.ir import (
    EVERYTHING,
    Mode,
    NetworkPeer,
    Operator,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Selector,
    WorkloadPeer,
)
from netwatch.policy.nodes import Node, invalid

_OPERATORS = tuple(operator.value for operator in Operator)


def read_network_policy(
    spec: Node, *, name: str, namespace: str, mode: Mode, place: Place
) -> Policy:
    """The policy that `spec` describes; raises InvalidDocument or InvalidPolicies."""
    known = ("podSelector", "policyTypes", "ingress", "egress")
    entries = fields.mapping(spec, "spec", known)
    problems = Problems()
    subject = EVERYTHING
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    types: frozenset[str] = frozenset()
    with problems.collected():
        if "podSelector" in entries:
            subject = read_selector(entries["podSelector"], "podSelector")
    with problems.collected():
        ingress = _rules(entries.get("ingress"), "ingress", "from")
    with problems.collected():
        egress = _rules(entries.get("egress"), "egress", "to")
    with problems.collected():
        types = _types(entries.get("policyTypes"), has_egress=bool(egress))
    problems.raise_any()
    isolates_ingress, isolates_egress = "Ingress" in types, "Egress" in types
    ignored = (*(() if isolates_ingress else ingress), *(() if isolates_egress else egress))
    return Policy(
        "NetworkPolicy",
        name,
        namespace,
        subject,
        mode,
        place,
        isolates_ingress=isolates_ingress,
        isolates_egress=isolates_egress,
        ingress=ingress if isolates_ingress else (),
        egress=egress if isolates_egress else (),
        ignored=ignored,
    )


def read_selector(node: Node, what: str) -> Selector:
    """A LabelSelector: `matchLabels` and `matchExpressions`, all of which must hold."""
    entries = fields.mapping(node, what, ("matchLabels", "matchExpressions"))
    requirements: list[Requirement] = []
    if "matchLabels" in entries:
        requirements.extend(fields.match_labels(entries["matchLabels"], "matchLabels"))
    for item in fields.sequence(entries.get("matchExpressions"), "matchExpressions"):
        requirements.append(_expression(item))
    return Selector(tuple(requirements))


def _expression(node: Node) -> Requirement:
    entries = fields.mapping(node, "the expression", ("key", "operator", "values"))
    for needed in ("key", "operator"):
        if needed not in entries:
            raise invalid(
                node.place,
                f"the expression has no {needed}",
                "write it like {key: app, operator: In, values: [web]}",
            )
    key_node = entries["key"]
    key = fields.label_key(fields.string(key_node, "key", "app"), key_node, "key")
    operator = Operator(fields.choice(entries["operator"], "operator", _OPERATORS))
    values = [
        fields.label_value(item, "a value")
        for item in fields.sequence(entries.get("values"), "values")
    ]
    if operator in (Operator.IN, Operator.NOT_IN) and not values:
        raise invalid(
            node.place,
            f"{operator} needs values, and there are none",
            f"add values: [...], or use {Operator.EXISTS} or {Operator.DOES_NOT_EXIST}",
        )
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and values:
        raise invalid(
            entries["values"].place,
            f"{operator} takes no values",
            f"leave them out, or use {Operator.IN} or {Operator.NOT_IN}",
        )
    return Requirement(key, operator, frozenset(values))


def _types(node: Node | None, *, has_egress: bool) -> frozenset[str]:
    stated = [
        fields.choice(item, "a policy type", ("Ingress", "Egress"))
        for item in fields.sequence(node, "policyTypes")
    ]
    if stated:
        return frozenset(stated)
    return frozenset(["Ingress", "Egress"] if has_egress else ["Ingress"])


def _rules(node: Node | None, what: str, peers_key: str) -> tuple[Rule, ...]:
    problems = Problems()
    rules = []
    for item in fields.sequence(node, what):
        with problems.collected():
            rules.append(_rule(item, peers_key))
    problems.raise_any()
    return tuple(rules)


def _rule(node: Node, peers_key: str) -> Rule:
    entries = fields.mapping(node, "the rule", (peers_key, "ports"))
    problems = Problems()
    peers: list[PeerSpec] = []
    ports: list[PortSpec] = []
    for item in fields.sequence(entries.get(peers_key), peers_key):
        with problems.collected():
            peers.append(_peer(item))
    for item in fields.sequence(entries.get("ports"), "ports"):
        with problems.collected():
            ports.append(_port(item))
    problems.raise_any()
    return Rule(node.place, tuple(peers), tuple(ports))


def _peer(node: Node) -> PeerSpec:
    entries = fields.mapping(node, "the peer", ("podSelector", "namespaceSelector", "ipBlock"))
    if not entries:
        raise invalid(
            node.place,
            "the peer names nobody",
            "for everybody leave the whole list out; for all of this namespace: podSelector: {}",
        )
    if "ipBlock" not in entries:
        workloads = EVERYTHING
        if "podSelector" in entries:
            workloads = read_selector(entries["podSelector"], "podSelector")
        if "namespaceSelector" not in entries:
            return WorkloadPeer(workloads)
        namespaces = read_selector(entries["namespaceSelector"], "namespaceSelector")
        return WorkloadPeer(workloads, namespaces)
    if len(entries) > 1:
        raise invalid(
            node.place,
            "the peer has an ipBlock beside a selector",
            "make two peers of it: each begins with `- `",
        )
    return _ip_block(entries["ipBlock"])


def _ip_block(node: Node) -> NetworkPeer:
    entries = fields.mapping(node, "ipBlock", ("cidr", "except"))
    if "cidr" not in entries:
        raise invalid(node.place, "the ipBlock has no cidr", "for example cidr: 10.0.0.0/8")
    return fields.network_peer(entries["cidr"], entries.get("except"), strict=False)


def _port(node: Node) -> PortSpec:
    entries = fields.mapping(node, "the port", ("protocol", "port", "endPort"))
    protocol = fields.protocol(entries.get("protocol"), known=fields.LOWER)
    end = entries.get("endPort")
    if "port" not in entries:
        if end is not None:
            raise invalid(end.place, "endPort stands without port", "add port: the first one")
        return PortSpec(protocol)
    spec = fields.named_or_numbered(entries["port"], protocol)
    if end is None:
        return spec
    if spec.first is None:
        raise invalid(end.place, "endPort stands beside a port's name", "write port: as a number")
    first, last = fields.port_range(spec.first, fields.number(end, "endPort"), end)
    return PortSpec(protocol, first, last)

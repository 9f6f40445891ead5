"""Reads the spec of a Kubernetes NetworkPolicy (networking.k8s.io/v1), exactly as upstream does.

The rules that the API server checks are checked here too, because a document that a cluster
refuses must not mean something on a host.
"""

from __future__ import annotations

from netwatch.policy import fields, port_fields
from netwatch.policy.edits import instead, rewritten, without
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

EXPRESSION = "{key: app, operator: In, values: [web]}"
_OPERATORS = tuple(operator.value for operator in Operator)


def read_network_policy(
    spec: Node, *, name: str, namespace: str, mode: Mode, place: Place
) -> Policy:
    """The policy that `spec` describes; raises InvalidDocument or InvalidPolicies."""
    known = ("podSelector", "policyTypes", "ingress", "egress")
    entries = fields.mapping(spec, "spec", known, example="{podSelector: {}}")
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
    entries = fields.mapping(
        node, what, ("matchLabels", "matchExpressions"), example="{matchLabels: {app: web}}"
    )
    requirements: list[Requirement] = []
    if "matchLabels" in entries:
        requirements.extend(fields.match_labels(entries["matchLabels"], "matchLabels"))
    listed = entries.get("matchExpressions")
    for item in fields.sequence(listed, "matchExpressions", f"[{EXPRESSION}]"):
        requirements.append(_expression(item))
    return Selector(tuple(requirements))


def _expression(node: Node) -> Requirement:
    entries = fields.mapping(
        node,
        "the expression",
        ("key", "operator", "values"),
        needed=("key", "operator"),
        example=EXPRESSION,
    )
    if "key" not in entries:
        raise fields.lacks(node, "the expression has no key", "key", "app")
    if "operator" not in entries:
        fitting = str(Operator.IN if "values" in entries else Operator.EXISTS)
        raise fields.lacks(node, "the expression has no operator", "operator", fitting)
    key_node = entries["key"]
    key = fields.label_key(fields.string(key_node, "key", "app"), key_node, "key")
    operator = Operator(fields.choice(entries["operator"], "operator", _OPERATORS))
    values = [
        fields.label_value(item, "a value")
        for item in fields.sequence(entries.get("values"), "values", "[web]")
    ]
    if operator in (Operator.IN, Operator.NOT_IN) and not values:
        raise invalid(
            node.place,
            f"{operator} needs values, and there are none",
            f"add values: [web], or use {Operator.EXISTS} or {Operator.DOES_NOT_EXIST}",
            rewritten(node, {"values": "[web]"}),
        )
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and values:
        raise invalid(
            entries["values"].place,
            f"{operator} takes no values",
            f"leave them out, or use {Operator.IN} or {Operator.NOT_IN}",
            instead(entries["values"], "[]"),
        )
    return Requirement(key, operator, frozenset(values))


def _types(node: Node | None, *, has_egress: bool) -> frozenset[str]:
    stated = [
        fields.choice(item, "a policy type", ("Ingress", "Egress"))
        for item in fields.sequence(node, "policyTypes", "[Ingress]")
    ]
    if stated:
        return frozenset(stated)
    return frozenset(["Ingress", "Egress"] if has_egress else ["Ingress"])


def _rules(node: Node | None, what: str, peers_key: str) -> tuple[Rule, ...]:
    problems = Problems()
    rules = []
    for item in fields.sequence(node, what, f"[{_all(peers_key)}]"):
        with problems.collected():
            rules.append(_rule(item, peers_key))
    problems.raise_any()
    return tuple(rules)


def _all(peers_key: str) -> str:
    """A whole rule, for whoever wrote none."""
    return f"{{{peers_key}: [{{podSelector: {{}}}}]}}"


def _rule(node: Node, peers_key: str) -> Rule:
    example = _all(peers_key)
    entries = fields.mapping(node, "the rule", (peers_key, "ports"), example=example)
    problems = Problems()
    peers: list[PeerSpec] = []
    ports: list[PortSpec] = []
    for item in fields.sequence(entries.get(peers_key), peers_key, "[{podSelector: {}}]"):
        with problems.collected():
            peers.append(_peer(item))
    for item in fields.sequence(entries.get("ports"), "ports", "[{port: 443}]"):
        with problems.collected():
            ports.append(_port(item))
    problems.raise_any()
    return Rule(node.place, tuple(peers), tuple(ports))


def _peer(node: Node) -> PeerSpec:
    known = ("podSelector", "namespaceSelector", "ipBlock")
    entries = fields.mapping(node, "the peer", known, example="{podSelector: {}}")
    if not entries:
        raise invalid(
            node.place,
            "the peer names nobody",
            "for everybody leave the whole list out; for all of this namespace: {podSelector: {}}",
            instead(node, "{podSelector: {}}"),
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
            "make two peers of it, or leave ipBlock out",
            without(node, "ipBlock"),
        )
    return _ip_block(entries["ipBlock"])


def _ip_block(node: Node) -> NetworkPeer:
    entries = fields.mapping(
        node, "ipBlock", ("cidr", "except"), needed=("cidr",), example="{cidr: 10.0.0.0/8}"
    )
    if "cidr" not in entries:
        raise fields.lacks(node, "the ipBlock has no cidr", "cidr", "10.0.0.0/8")
    return fields.network_peer(entries["cidr"], entries.get("except"), strict=False)


def _port(node: Node) -> PortSpec:
    known = ("protocol", "port", "endPort")
    entries = fields.mapping(node, "the port", known, example="{port: 443}")
    protocol = port_fields.protocol(entries.get("protocol"), known=port_fields.LOWER)
    end = entries.get("endPort")
    if "port" not in entries:
        if end is not None:
            last = str(port_fields.number(end, "endPort"))
            raise invalid(
                end.place,
                "endPort stands without port",
                f"add port: the first one, or write {{port: {last}}}",
                rewritten(node, {"port": last, "endPort": None}),
            )
        return PortSpec(protocol)
    spec = port_fields.named_or_numbered(entries["port"], protocol)
    if end is None:
        return spec
    if spec.first is None:
        raise invalid(
            end.place,
            "endPort stands beside a port's name",
            "leave it out, or write port: as a number",
            without(node, "endPort"),
        )
    last_port = port_fields.number(end, "endPort")
    if last_port < spec.first:
        raise invalid(
            end.place,
            f"the range {spec.first}-{last_port} is empty",
            f"did you mean {{port: {last_port}, endPort: {spec.first}}}?",
            rewritten(node, {"port": str(last_port), "endPort": str(spec.first)}),
        )
    return PortSpec(protocol, spec.first, last_port)

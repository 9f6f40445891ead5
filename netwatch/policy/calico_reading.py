"""Reads Calico's policies (projectcalico.org/v3) as ours, where its order can mean nothing else.

In Calico's `default` tier the first rule that matches decides; here a deny beats every allow. The
two are the same where denies come first; one behind the last allow says what isolation says.
A tier before or behind `default` that passes on is the Admin or the Baseline tier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network

from netwatch.policy import fields, port_fields
from netwatch.policy.calico import DEFAULT_ORDER
from netwatch.policy.calico_selectors import read_expression
from netwatch.policy.calico_tiers import KnownTier, Read, at, in_tier
from netwatch.policy.edits import instead
from netwatch.policy.foreign import Named, known_only, middle, no_equal, opened
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    Mode,
    NetworkPeer,
    Operator,
    PeerSpec,
    Policy,
    PortSpec,
    Rule,
    Tier,
    WorkloadPeer,
)
from netwatch.policy.nodes import Kind, Node, invalid, shorten

GLOBAL = ("GlobalNetworkPolicy", "StagedGlobalNetworkPolicy", "Tier")
KINDS = ("NetworkPolicy", "StagedNetworkPolicy", *GLOBAL)
KUBERNETES_ORDER = 1000.0
_LAST = float("inf")
_OF_SPEC = ("tier", "order", "selector", "namespaceSelector", "types", "ingress", "egress")
_NO_SPEC = {
    "serviceAccountSelector": "select workloads by their labels",
    "doNotTrack": "leave it out; host endpoints are not governed",
    "preDNAT": "leave it out; host endpoints are not governed",
    "applyOnForward": "leave it out; host endpoints are not governed",
}
_OF_RULE = ("action", "protocol", "source", "destination", "metadata")
_NO_RULE = {
    "http": "leave it out: paths and methods are not judged, only addresses and ports",
    "icmp": "leave it out; a rule without ports allows ICMP too",
    "notICMP": "leave it out; a rule without ports allows ICMP too",
    "notProtocol": "name the protocol: protocol: TCP",
    "ipVersion": "name networks of that family: nets: [0.0.0.0/0]",
}
_OF_PEER = ("selector", "namespaceSelector", "nets", "notNets", "ports")
_NO_PEER = {
    "notSelector": "write it into selector: app != 'web'",
    "serviceAccounts": "select workloads by their labels",
    "services": "select the workloads behind it by their labels",
    "notPorts": "list the ports that are meant: ports: [80, 443]",
    "domains": "write a Segment with to: www.example.com",
}
_ACTIONS = {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}


def read_calico(nodes: Sequence[Node], kubernetes: Sequence[Policy]) -> Iterator[Policy]:
    """What Calico's documents among these say, all of one cluster; `kubernetes` stand beside.

    Raises InvalidDocument for what has no equal.
    """
    named = [opened(node, global_kinds=GLOBAL) for node in nodes]
    tiers = {each.name: _tier(each) for each in named if each.kind == "Tier"}
    read = [_read(each) for each in named if each.kind != "Tier"]
    read.sort(key=lambda each: (each.order, each.name))
    yield from _default([each for each in read if each.tier == "default"], kubernetes)
    around: dict[Tier, str] = {}
    for each in read:
        if each.tier == "default":
            continue
        if each.tier not in tiers:
            raise no_equal(
                each.named.spec,
                f"the tier {shorten(each.tier)}, whose order is in no file,",
                f"add its document: kind: Tier, metadata: {{name: {each.tier[:40]}}}",
            )
        kind = Tier.ADMIN if tiers[each.tier].order < DEFAULT_ORDER else Tier.BASELINE
        if around.setdefault(kind, each.tier) != each.tier:
            raise no_equal(
                each.named.spec,
                f"a second tier {'before' if kind is Tier.ADMIN else 'behind'} `default`",
                f"move its documents into the tier {around[kind][:40]}",
            )
        mine = [other for other in read if other.tier == each.tier]
        yield in_tier(each, mine, kind, tiers[each.tier])


def _tier(named: Named) -> KnownTier:
    spec = fields.mapping(named.spec, "spec", ("order", "defaultAction"))
    action = spec.get("defaultAction")
    word = "Deny" if action is None else fields.choice(action, "defaultAction", ("Deny", "Pass"))
    return KnownTier(_order(spec.get("order")), word == "Pass")


def _order(node: Node | None) -> float:
    if node is None:
        return _LAST
    if node.kind is not Kind.NUMBER:
        raise invalid(
            node.place, f"order is {node.shown}", "write a number: 100", instead(node, "100")
        )
    return float(node.text)


def _read(named: Named) -> Read:
    spec = known_only(named.spec, "spec", _OF_SPEC, _NO_SPEC)
    tier = fields.name(spec["tier"], "tier") if "tier" in spec else "default"
    subject = read_expression(spec.get("selector"), "selector")
    namespaces = EVERYTHING
    if "namespaceSelector" in spec:
        if named.namespace is not None:
            raise no_equal(
                spec["namespaceSelector"],
                "namespaceSelector of a namespace's policy",
                "leave it out, or make it a GlobalNetworkPolicy",
            )
        namespaces = read_expression(spec["namespaceSelector"], "namespaceSelector")
    sides = tuple(
        tuple(_rule(item, named, ingress=key == "ingress") for item in _items(spec.get(key), key))
        for key in ("ingress", "egress")
    )
    types = [
        fields.choice(item, "a type", ("Ingress", "Egress"))
        for item in fields.sequence(spec.get("types"), "types", "[Ingress]")
    ]
    if not types:
        types = ["Egress"] if sides[1] and not sides[0] else ["Ingress"]
        types += ["Egress"] if sides[0] and sides[1] else []
    isolates = "Ingress" in types, "Egress" in types
    prefix = f"{tier}."
    return Read(
        named,
        named.name.removeprefix(prefix),
        tier,
        _order(spec.get("order")),
        Mode.STAGE if named.kind.startswith("Staged") else Mode.ENFORCE,
        subject,
        namespaces,
        isolates,
        (sides[0] if isolates[0] else (), sides[1] if isolates[1] else ()),
    )


def _items(node: Node | None, what: str) -> tuple[Node, ...]:
    return fields.sequence(node, what, "[{action: Allow}]")


def _rule(node: Node, named: Named, *, ingress: bool) -> Rule:
    entries = known_only(node, "the rule", _OF_RULE, _NO_RULE)
    if "action" not in entries:
        raise fields.lacks(node, "the rule has no action", "action", "Allow")
    if entries["action"].text == "Log":
        raise no_equal(
            entries["action"],
            "the action Log",
            "leave the rule out: denials are logged by themselves",
        )
    action = _ACTIONS[fields.choice(entries["action"], "action", tuple(_ACTIONS))]
    near, far = ("destination", "source") if ingress else ("source", "destination")
    other = known_only(entries[far], far, _OF_PEER, _NO_PEER) if far in entries else {}
    own = known_only(entries[near], near, _OF_PEER, _NO_PEER) if near in entries else {}
    for key, value in own.items():
        if not (ingress and key == "ports"):
            raise no_equal(
                value,
                f"{key} of the end that the policy governs itself",
                "say it in the policy's own selector, and leave it out here",
            )
    if ingress and "ports" in other:
        raise no_equal(other["ports"], "the port of a source", "leave it out")
    ports = (own if ingress else other).get("ports")
    return Rule(node.place, _peers(other, named), _ports(entries.get("protocol"), ports), action)


def _peers(entries: dict[str, Node], named: Named) -> tuple[PeerSpec, ...]:
    labels = [key for key in ("selector", "namespaceSelector") if key in entries]
    beyond = entries.get("notNets")
    if "nets" in entries:
        if labels:
            raise no_equal(entries["nets"], "a network beside a selector", "make two rules of it")
        found = []
        for item in fields.sequence(entries["nets"], "nets", "[10.0.0.0/8]"):
            outer = fields.network_peer(item, None, strict=False)
            excepts = [] if beyond is None else list(_excepts(beyond, outer))
            found.append(NetworkPeer(outer.cidr, tuple(excepts)))
        if found:
            return tuple(found)
    if beyond is not None:
        raise no_equal(beyond, "notNets without nets", "add nets: [0.0.0.0/0]")
    if not labels:
        return ()
    workloads = read_expression(entries.get("selector"), "selector")
    namespaces = EVERYTHING if named.namespace is None else None
    if "namespaceSelector" in entries:
        namespaces = read_expression(entries["namespaceSelector"], "namespaceSelector")
    return (WorkloadPeer(workloads, namespaces),)


def _excepts(node: Node, outer: NetworkPeer) -> Iterator[str]:
    """Those that lie in this network; of another they take nothing away."""
    whole = ip_network(outer.cidr)
    for item in fields.sequence(node, "notNets", "[10.1.0.0/16]"):
        part = fields.network(item, "notNets", strict=False)
        if part.version != whole.version or not part.overlaps(whole):
            continue
        if part.prefixlen <= whole.prefixlen:
            raise no_equal(item, f"an exception that holds all of {whole}", "leave both out")
        yield str(part)


def _ports(protocol: Node | None, ports: Node | None) -> tuple[PortSpec, ...]:
    if protocol is None:
        if ports is not None and ports.items:
            raise no_equal(ports, "a port without a protocol", "add protocol: TCP")
        return ()
    spelt = {**port_fields.LOWER, **{p.capitalize(): p for p in ("tcp", "udp", "sctp")}}
    name = port_fields.protocol(protocol, known=spelt)
    items = fields.sequence(ports, "ports", "[443]")
    return tuple(_port(item, name) for item in items) or (PortSpec(name),)


def _port(node: Node, protocol: str) -> PortSpec:
    match = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", node.text)
    if match:
        first, last = (port_fields.port_number(end, node, "the port") for end in match.groups())
        return PortSpec(protocol, *port_fields.port_range(first, last, node))
    return port_fields.named_or_numbered(node, protocol)


def _default(read: Sequence[Read], kubernetes: Sequence[Policy]) -> Iterator[Policy]:
    """The middle tier. What is not needed of the denies is left out; see the head."""
    for each in read:
        sides = tuple(tuple(_needed(each, side, read, kubernetes)) for side in (0, 1))
        for namespace in _namespaces(each):
            named = replace(each.named, namespace=namespace)
            yield middle(
                named,
                each.name,
                subject=each.subject,
                mode=each.mode,
                isolates=each.isolates,
                ingress=sides[0],
                egress=sides[1],
            )


def _namespaces(read: Read) -> Iterable[str | None]:
    """Of a global policy: every one, or those that it names."""
    if read.named.namespace is not None or read.namespaces == EVERYTHING:
        return (read.named.namespace,)
    requirements = read.namespaces.requirements
    only = requirements[0]
    if len(requirements) == 1 and only == replace(
        only, key=fields.NAMESPACE_NAME, operator=Operator.IN
    ):
        return sorted(only.values)
    raise no_equal(
        read.named.spec,
        "a namespaceSelector by labels in the tier `default`",
        "name the namespaces: projectcalico.org/name in {'shop'}, or use a tier",
    )


def _needed(
    mine: Read, side: int, read: Sequence[Read], kubernetes: Sequence[Policy]
) -> Iterator[Rule]:
    near = [each for each in read if each.meets(mine.named.namespace)]
    beside = any(mine.meets(policy.namespace) for policy in kubernetes)
    allows = [
        (each.order, each.name, number)
        for each in near
        for number, rule in enumerate(each.sides[side])
        if rule.action is Action.ALLOW
    ] + ([(KUBERNETES_ORDER, "knp", 0)] if beside else [])
    for number, rule in enumerate(mine.sides[side]):
        spot = (mine.order, mine.name, number)
        if rule.action is Action.PASS:
            raise at(rule, "Pass in the tier `default`", "leave it out, or write Allow")
        if rule.action is Action.ALLOW or not any(allow < spot for allow in allows):
            yield rule
        elif any(allow > spot for allow in allows):
            raise at(
                rule,
                "a Deny between two Allows",
                "put it before every Allow: here a deny beats all of them",
            )

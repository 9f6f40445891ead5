"""Policies as Calico writes them (projectcalico.org/v3), where its order is made to mean ours.

Calico asks tiers in order, in a tier its policies in order, and the first rule that matches
decides; a tier that selects a workload denies the rest, unless its default action is Pass. So the
Admin tier goes before Calico's `default` tier and the Baseline tier behind it, both passing on;
between them all denies of Segments stand before all allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from netwatch.policy.calico_selectors import expression
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    Mode,
    NetworkPeer,
    PeerSpec,
    Policy,
    PortSpec,
    Rule,
    Tier,
    WorkloadPeer,
    World,
)
from netwatch.policy.unequal import check_rule, no_equal, one_protocol_each, peers_there

VERSION = "projectcalico.org/v3"
FORM = "Calico"
DEFAULT_ORDER = 1_000_000
"""Where Calico's own `default` tier stands."""
TIERS = {
    Tier.ADMIN: ("netwatch-admin", DEFAULT_ORDER // 2),
    Tier.BASELINE: ("netwatch-baseline", 2 * DEFAULT_ORDER),
}
ACTIONS = {Action.ALLOW: "Allow", Action.DENY: "Deny", Action.PASS: "Pass"}
DENY_ORDER, ALLOW_ORDER = 100, 1000
"""Calico gives a Kubernetes NetworkPolicy the order 1000."""
_SIDES = (("Ingress", "ingress"), ("Egress", "egress"))


def to_calico(policies: Sequence[Policy], world: World) -> list[dict[str, Any]]:
    """Objects to apply, tiers first; raises NetwatchError for what Calico can not say."""
    tiers = [t for t in TIERS if any(policy.tier is t for policy in policies)]
    documents = [_tier(*TIERS[tier]) for tier in tiers]
    seen: set[tuple[object, ...]] = set()
    for policy in policies:
        for document in _documents(policy, world):
            metadata = document["metadata"]
            key = (document["kind"], metadata.get("namespace"), metadata["name"])
            if key in seen:
                raise no_equal(policy, FORM, f"a {key[0]} {key[2]} is there already")
            seen.add(key)
            documents.append(document)
    return documents


def _tier(name: str, order: int) -> dict[str, Any]:
    spec = {"order": order, "defaultAction": "Pass"}
    return {"apiVersion": VERSION, "kind": "Tier", "metadata": {"name": name}, "spec": spec}


def _documents(policy: Policy, world: World) -> Iterator[dict[str, Any]]:
    """One, but of a Segment its denies and the rest apart; none of one that says nothing."""
    if policy.mode is Mode.OBSERVE:
        raise no_equal(policy, FORM, "its mode is observe, and Calico stages or enforces")
    if policy.tier is not Tier.MIDDLE:
        name, _ = TIERS[policy.tier]
        yield _document(
            policy, f"{name}.{policy.name}", name, policy.priority, _all(policy), world
        )
        return
    for isolated, rules in (
        (policy.isolates_ingress, policy.ingress),
        (policy.isolates_egress, policy.egress),
    ):
        if rules and not isolated:
            raise no_equal(policy, FORM, "its rules do not isolate, and a tier's last word does")
    kept = [
        tuple(
            tuple(r for r in rules if (r.action is Action.DENY) is denies)
            for rules in _all(policy)
        )
        for denies in (True, False)
    ]
    if any(kept[0]):
        yield _document(policy, f"{policy.name}-deny", "default", DENY_ORDER, kept[0], world)
    if policy.isolates_ingress or policy.isolates_egress:
        yield _document(policy, policy.name, "default", ALLOW_ORDER, kept[1], world)


def _all(policy: Policy) -> tuple[tuple[Rule, ...], ...]:
    return policy.ingress, policy.egress


def _document(
    policy: Policy,
    name: str,
    tier: str,
    order: int,
    rules: Sequence[Sequence[Rule]],
    world: World,
) -> dict[str, Any]:
    kind = "GlobalNetworkPolicy" if policy.namespace is None else "NetworkPolicy"
    metadata = {"name": name}
    spec: dict[str, Any] = {"tier": tier, "order": order}
    if policy.namespace is None:
        spec["namespaceSelector"] = expression(policy.namespaces)
    else:
        metadata["namespace"] = policy.namespace
    spec["selector"] = expression(policy.subject)
    isolates = (policy.isolates_ingress, policy.isolates_egress)
    spec["types"] = types = []
    for (word, key), side, isolated in zip(_SIDES, rules, isolates, strict=True):
        if side or isolated:
            types.append(word)
            found = [r for rule in side for r in _rules(policy, rule, world, key == "ingress")]
            if found:
                spec[key] = found
    if not types:
        types.append("Ingress")
    return {
        "apiVersion": VERSION,
        "kind": f"Staged{kind}" if policy.mode is Mode.STAGE else kind,
        "metadata": metadata,
        "spec": spec,
    }


def _rules(policy: Policy, rule: Rule, world: World, ingress: bool) -> Iterator[dict[str, Any]]:
    """A rule there has one kind of peer and one protocol, so that one may become several."""
    check_rule(policy, rule, FORM)
    peers = peers_there(policy, rule, world, FORM, ingress=ingress)
    if peers is None:
        return
    for entity, ports in product(_entities(policy, peers), _by_protocol(rule.ports)):
        data: dict[str, Any] = {"action": ACTIONS[rule.action]}
        if ports.protocol is not None:
            data["protocol"] = ports.protocol.upper()
        source, destination = (entity, {}) if ingress else ({}, dict(entity))
        if ports.listed:
            destination["ports"] = ports.listed
        if source:
            data["source"] = source
        if destination:
            data["destination"] = destination
        yield data


def _entities(policy: Policy, peers: Iterable[PeerSpec]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for peer in peers:
        if isinstance(peer, NetworkPeer):
            beyond = {"notNets": list(peer.excepts)} if peer.excepts else {}
            found.append({"nets": [peer.cidr], **beyond})
        elif isinstance(peer, WorkloadPeer):
            namespaces = peer.namespaces
            if namespaces is None and policy.namespace is None:
                namespaces = EVERYTHING
            data = {}
            if peer.workloads != EVERYTHING or namespaces is None:
                data["selector"] = expression(peer.workloads)
            if namespaces is not None:
                data["namespaceSelector"] = expression(namespaces)
            found.append(data)
    return found or [{}]


class _Ports:
    """All ports of one protocol: numbers, `8000:8010`, names; none listed means every one."""

    def __init__(self, protocol: str | None, specs: Sequence[PortSpec]) -> None:
        whole = any(spec.first is None and spec.name is None for spec in specs)
        self.protocol = protocol
        self.listed: list[int | str] = [] if whole else [_port(spec) for spec in specs]


def _by_protocol(ports: Iterable[PortSpec]) -> list[_Ports]:
    found: dict[str | None, list[PortSpec]] = {}
    for spec in one_protocol_each(ports):
        found.setdefault(spec.protocol, []).append(spec)
    return [_Ports(protocol, specs) for protocol, specs in found.items()] or [_Ports(None, ())]


def _port(spec: PortSpec) -> int | str:
    if spec.name is not None or spec.first is None:
        return spec.name or "0:65535"
    last = spec.last or spec.first
    return spec.first if last == spec.first else f"{spec.first}:{last}"

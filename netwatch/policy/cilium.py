"""Policies as Cilium writes them (cilium.io/v2): allows and denies, of which a deny always wins.

That is the middle tier; Cilium has no tiers around it. `enableDefaultDeny` says whether a document
isolates, so it is always written. A CIDR there never means a pod: what that changes is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from netwatch.policy.fields import NAMESPACE_NAME
from netwatch.policy.ir import (
    Action,
    Mode,
    NamePeer,
    NetworkPeer,
    Operator,
    PeerSpec,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Selector,
    Tier,
    WorkloadPeer,
    World,
)
from netwatch.policy.unequal import check_rule, no_equal, one_protocol_each, peers_there
from netwatch.policy.upstream import selector_data

VERSION = "cilium.io/v2"
FORM = "Cilium"
NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABEL = "io.cilium.k8s.namespace.labels."
MAX_PORTS = 40
"""Of one item of toPorts; the limit of the API."""
_ENDS = {"ingress": "from", "egress": "to"}


def to_cilium(policies: Sequence[Policy], world: World) -> list[dict[str, Any]]:
    """Objects to apply; raises NetwatchError for what Cilium can not say."""
    seen: set[tuple[object, ...]] = set()
    documents = []
    for policy in policies:
        key = (policy.namespace, policy.name)
        if key in seen:
            raise no_equal(policy, FORM, f"another document is called {policy.name} there")
        seen.add(key)
        documents.append(_document(policy, world))
    return documents


def _document(policy: Policy, world: World) -> dict[str, Any]:
    if policy.tier is not Tier.MIDDLE:
        raise no_equal(policy, FORM, "its policies have no tiers")
    if policy.mode is not Mode.ENFORCE:
        raise no_equal(policy, FORM, f"its mode is {policy.mode}, and Cilium only enforces")
    metadata = {"name": policy.name}
    kind = "CiliumClusterwideNetworkPolicy"
    if policy.namespace is not None:
        metadata["namespace"] = policy.namespace
        kind = "CiliumNetworkPolicy"
    spec: dict[str, Any] = {
        "endpointSelector": selector_data(policy.subject),
        "enableDefaultDeny": {
            "ingress": policy.isolates_ingress,
            "egress": policy.isolates_egress,
        },
    }
    for word, rules in (("ingress", policy.ingress), ("egress", policy.egress)):
        for key, denies in ((word, False), (f"{word}Deny", True)):
            found = [
                data
                for rule in rules
                if (rule.action is Action.DENY) is denies
                for data in _rules(policy, rule, world, word)
            ]
            if found:
                spec[key] = found
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _rules(policy: Policy, rule: Rule, world: World, word: str) -> Iterator[dict[str, Any]]:
    """One for each kind of peer, which Cilium does not take together."""
    check_rule(policy, rule, FORM)
    end, ingress = _ENDS[word], word == "ingress"
    peers = peers_there(policy, rule, world, FORM, ingress=ingress, names=True)
    if peers is None:
        return
    ports = {"toPorts": list(_ports(rule.ports))} if rule.ports else {}
    for key, found in _by_kind(policy, rule, peers, end):
        yield {key: found, **ports}


def _by_kind(
    policy: Policy, rule: Rule, peers: Sequence[PeerSpec], end: str
) -> Iterator[tuple[str, list[Any]]]:
    if not peers:
        yield f"{end}Entities", ["all"]
    endpoints = [_endpoints(peer) for peer in peers if isinstance(peer, WorkloadPeer)]
    if endpoints:
        yield f"{end}Endpoints", endpoints
    blocks = [_block(peer) for peer in peers if isinstance(peer, NetworkPeer)]
    if blocks:
        yield f"{end}CIDRSet", blocks
    names = [peer.name for peer in peers if isinstance(peer, NamePeer)]
    if any(name.startswith("*") for name in names):
        raise no_equal(policy, FORM, f"at {rule.place} every name below another is meant")
    if names:
        yield f"{end}FQDNs", [{"matchName": name} for name in names]


def _block(peer: NetworkPeer) -> dict[str, Any]:
    return {"cidr": peer.cidr, **({"except": list(peer.excepts)} if peer.excepts else {})}


def _endpoints(peer: WorkloadPeer) -> dict[str, Any]:
    """Labels of the workload and, by prefix, of its namespace; without one it is the own."""
    requirements = list(peer.workloads.requirements)
    if peer.namespaces is not None:
        requirements += [
            Requirement(_namespace_key(each.key), each.operator, each.values)
            for each in peer.namespaces.requirements
        ]
        if all(each.key != NAMESPACE_NAME for each in peer.namespaces.requirements):
            requirements.append(Requirement(f"k8s:{NAMESPACE_KEY}", Operator.EXISTS))
    return selector_data(Selector(tuple(requirements)))


def _namespace_key(key: str) -> str:
    return f"k8s:{NAMESPACE_KEY if key == NAMESPACE_NAME else NAMESPACE_LABEL + key}"


def _ports(ports: Iterable[PortSpec]) -> Iterator[dict[str, Any]]:
    found = [_port(spec) for spec in one_protocol_each(ports)]
    for first in range(0, len(found), MAX_PORTS):
        yield {"ports": found[first : first + MAX_PORTS]}


def _port(spec: PortSpec) -> dict[str, Any]:
    """0 is every port of the protocol."""
    data: dict[str, Any] = {"port": spec.name or str(spec.first or 0)}
    if spec.first is not None and spec.last not in (None, spec.first):
        data["endPort"] = spec.last
    data["protocol"] = (spec.protocol or "any").upper()
    return data

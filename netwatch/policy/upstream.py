"""Writes the kinds that Kubernetes has as plain data: NetworkPolicy and ClusterNetworkPolicy.

AdminNetworkPolicy and BaselineAdminNetworkPolicy are read as equals of ClusterNetworkPolicy, and
are written as one: the older two are about to go upstream.
"""

from __future__ import annotations

from typing import Any

from netwatch.model.errors import NetwatchError
from netwatch.policy.document import API_VERSIONS, MODE_ANNOTATION
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    NamePeer,
    NetworkPeer,
    Operator,
    PeerSpec,
    Policy,
    PortSpec,
    Rule,
    Selector,
    Tier,
    WorkloadPeer,
)

TIER_NAMES = {Tier.ADMIN: "Admin", Tier.BASELINE: "Baseline"}
ACTION_NAMES = {Action.ALLOW: "Accept", Action.DENY: "Deny", Action.PASS: "Pass"}
_LAST_PORT = 65_535


def network_policy(policy: Policy) -> dict[str, Any]:
    """The object; raises NetwatchError for peers that no NetworkPolicy has."""
    metadata = _metadata(policy)
    types: list[str] = []
    spec: dict[str, Any] = {"podSelector": selector_data(policy.subject), "policyTypes": types}
    for word, isolated, key, rules in (
        ("Ingress", policy.isolates_ingress, "from", policy.ingress),
        ("Egress", policy.isolates_egress, "to", policy.egress),
    ):
        if isolated:
            types.append(word)
            spec[word.lower()] = [_rule(rule, key) for rule in rules]
    return {
        "apiVersion": API_VERSIONS["NetworkPolicy"],
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": spec,
    }


def _metadata(policy: Policy) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": policy.name}
    if policy.namespace is not None:
        metadata["namespace"] = policy.namespace
    if str(policy.mode) != "enforce":
        metadata["annotations"] = {MODE_ANNOTATION: str(policy.mode)}
    return metadata


def _rule(rule: Rule, key: str) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if rule.peers:
        data[key] = [_peer(peer) for peer in rule.peers]
    if rule.ports:
        data["ports"] = [_port(port) for port in rule.ports]
    return data


def _peer(peer: PeerSpec) -> dict[str, Any]:
    if isinstance(peer, NetworkPeer):
        block: dict[str, Any] = {"cidr": peer.cidr}
        if peer.excepts:
            block["except"] = list(peer.excepts)
        return {"ipBlock": block}
    if not isinstance(peer, WorkloadPeer):
        raise NetwatchError("a NetworkPolicy has no peer for the host or the internet")
    data = {"podSelector": selector_data(peer.workloads)}
    if peer.namespaces is not None:
        data["namespaceSelector"] = selector_data(peer.namespaces)
    return data


def _port(port: PortSpec) -> dict[str, Any]:
    if port.protocol is None:
        raise NetwatchError("a port of a NetworkPolicy has one protocol")
    data: dict[str, Any] = {"protocol": port.protocol.upper()}
    if port.name is not None:
        data["port"] = port.name
    elif port.first is not None:
        data["port"] = port.first
        if port.last not in (None, port.first):
            data["endPort"] = port.last
    return data


def cluster_network_policy(policy: Policy) -> dict[str, Any]:
    """A document of the Admin or Baseline tier; raises NetwatchError for what it can not say."""
    spec: dict[str, Any] = {
        "tier": TIER_NAMES[policy.tier],
        "priority": policy.priority,
        "subject": _inside(policy.namespaces, policy.subject),
    }
    for word, end, rules in (("ingress", "from", policy.ingress), ("egress", "to", policy.egress)):
        if rules:
            spec[word] = [_tier_rule(policy, rule, end) for rule in rules]
    return {
        "apiVersion": API_VERSIONS["ClusterNetworkPolicy"],
        "kind": "ClusterNetworkPolicy",
        "metadata": _metadata(policy),
        "spec": spec,
    }


def _tier_rule(policy: Policy, rule: Rule, end: str) -> dict[str, Any]:
    data: dict[str, Any] = {} if rule.name is None else {"name": rule.name}
    data["action"] = ACTION_NAMES[rule.action]
    data[end] = [_tier_peer(policy, peer, end) for peer in rule.peers]
    if rule.ports:
        data["protocols"] = [_tier_port(port) for port in rule.ports]
    return data


def _tier_peer(policy: Policy, peer: PeerSpec, end: str) -> dict[str, Any]:
    match peer:
        case WorkloadPeer():
            return _inside(peer.namespaces or EVERYTHING, peer.workloads)
        case NamePeer() if end == "to":
            return {"domainNames": [peer.name]}
        case NetworkPeer() if end == "to" and not peer.excepts:
            return {"networks": [peer.cidr]}
    raise NetwatchError(f"{policy.title} has a peer that no ClusterNetworkPolicy can name")


def _inside(namespaces: Selector, workloads: Selector) -> dict[str, Any]:
    if workloads == EVERYTHING:
        return {"namespaces": selector_data(namespaces)}
    pods = {
        "namespaceSelector": selector_data(namespaces),
        "podSelector": selector_data(workloads),
    }
    return {"pods": pods}


def _tier_port(port: PortSpec) -> dict[str, Any]:
    if port.name is not None:
        return {"destinationNamedPort": port.name}
    if port.protocol is None:
        raise NetwatchError("a port of a ClusterNetworkPolicy has one protocol")
    first, last = (1, _LAST_PORT) if port.first is None else (port.first, port.last or port.first)
    number = {"number": first} if first == last else {"range": {"start": first, "end": last}}
    return {port.protocol: {"destinationPort": number}}


def selector_data(selector: Selector) -> dict[str, Any]:
    """As Kubernetes has it: matchLabels for what they can say, matchExpressions for the rest."""
    labels: dict[str, str] = {}
    expressions: list[dict[str, Any]] = []
    for requirement in selector.requirements:
        values = sorted(requirement.values)
        single = requirement.operator is Operator.IN and len(values) == 1
        if single and requirement.key not in labels:
            labels[requirement.key] = values[0]
            continue
        expression: dict[str, Any] = {
            "key": requirement.key,
            "operator": str(requirement.operator),
        }
        if values:
            expression["values"] = values
        expressions.append(expression)
    found: dict[str, Any] = {}
    if labels:
        found["matchLabels"] = labels
    if expressions:
        found["matchExpressions"] = expressions
    return found

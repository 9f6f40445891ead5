"""Reads the spec of a ClusterNetworkPolicy, policy.networking.k8s.io/v1alpha2.

The rules that the API server checks are checked here too, because a document that a cluster
refuses must not mean something on a host. Of its peers, nodes are refused by name.
"""

from __future__ import annotations

from netwatch.policy import fields
from netwatch.policy.fields import Problems
from netwatch.policy.ir import Action, Mode, Place, Policy, PortSpec, Tier
from netwatch.policy.nodes import Node, invalid
from netwatch.policy.tiers import Dialect, read_priority, read_tier

KIND = "ClusterNetworkPolicy"
_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_PROTOCOLS = ("tcp", "udp", "sctp")
_NAMED = "destinationNamedPort"
_EXAMPLE = "for example tcp: {destinationPort: {number: 443}}"


def read_cluster_network_policy(spec: Node, *, name: str, mode: Mode, place: Place) -> Policy:
    """The policy that `spec` describes; raises InvalidDocument or InvalidPolicies."""
    known = ("tier", "priority", "subject", "ingress", "egress")
    entries = fields.mapping(spec, "spec", known)
    problems = Problems()
    tier = Tier.ADMIN
    priority = 0
    with problems.collected():
        tier = _tier(spec, entries.get("tier"))
    with problems.collected():
        priority = read_priority(spec, entries.get("priority"))
    with problems.collected():
        policy = read_tier(
            spec,
            entries,
            dialect=_DIALECT,
            name=name,
            mode=mode,
            place=place,
            tier=tier,
            priority=priority,
        )
    problems.raise_any()
    return policy


def _tier(spec: Node, node: Node | None) -> Tier:
    if node is None:
        raise invalid(spec.place, "the spec has no tier", f"add tier: {' or '.join(_TIERS)}")
    return _TIERS[fields.choice(node, "tier", tuple(_TIERS))]


def _protocol(node: Node) -> PortSpec:
    """One item of `protocols`: `{tcp: {destinationPort: ...}}` or a port's name."""
    entries = fields.mapping(node, "the protocol", (*_PROTOCOLS, _NAMED))
    if len(entries) != 1:
        said = " and ".join(entries) or "nothing"
        raise invalid(node.place, f"the item of protocols names {said}", f"name one, {_EXAMPLE}")
    key, value = next(iter(entries.items()))
    if key == _NAMED:
        return PortSpec(name=fields.port_name(fields.string(value, _NAMED, "https"), value))
    inner = fields.mapping(value, key, ("destinationPort",))
    if "destinationPort" not in inner:
        raise invalid(
            value.place,
            f"{key} names no port",
            "for every port destinationPort: {range: {start: 1, end: 65535}}",
        )
    return PortSpec(key, *_port(inner["destinationPort"]))


def _port(node: Node) -> tuple[int, int]:
    entries = fields.mapping(node, "destinationPort", ("number", "range"))
    if len(entries) != 1:
        said = "both number and range" if entries else "neither number nor range"
        raise invalid(node.place, f"destinationPort has {said}", "for example {number: 443}")
    if "number" in entries:
        number = fields.number(entries["number"], "number")
        return number, number
    value = entries["range"]
    return fields.start_and_end(fields.mapping(value, "range", ("start", "end")), value, "range")


_DIALECT = Dialect(
    KIND,
    {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    ports="protocols",
    port=_protocol,
    most=25,
    names=True,
    needs_namespaces=False,
)

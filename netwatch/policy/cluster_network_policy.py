"""Reads the spec of a ClusterNetworkPolicy, policy.networking.k8s.io/v1alpha2.

The rules that the API server checks are checked here too, because a document that a cluster
refuses must not mean something on a host. Of its peers, nodes are refused by name.
"""

from __future__ import annotations

from netwatch.policy import fields, port_fields
from netwatch.policy.edits import instead
from netwatch.policy.fields import Problems
from netwatch.policy.ir import Action, Mode, Place, Policy, PortSpec, Tier
from netwatch.policy.nodes import Node, invalid
from netwatch.policy.tiers import Dialect, read_priority, read_tier

KIND = "ClusterNetworkPolicy"
SPEC = "{tier: Admin, priority: 500, subject: {namespaces: {}}}"
"""The smallest that is right."""
TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_PROTOCOLS = ("tcp", "udp", "sctp")
_NAMED = "destinationNamedPort"
_EXAMPLE = "{tcp: {destinationPort: {number: 443}}}"
_EVERY_PORT = "{range: {start: 1, end: 65535}}"


def read_cluster_network_policy(spec: Node, *, name: str, mode: Mode, place: Place) -> Policy:
    """The policy that `spec` describes; raises InvalidDocument or InvalidPolicies."""
    known = ("tier", "priority", "subject", "ingress", "egress")
    entries = fields.mapping(spec, "spec", known, needed=known[:3], example=SPEC)
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
            dialect=DIALECT,
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
        raise fields.lacks(spec, "the spec has no tier", "tier", "Admin")
    return TIERS[fields.choice(node, "tier", tuple(TIERS))]


def _protocol(node: Node) -> PortSpec:
    """One item of `protocols`: `{tcp: {destinationPort: ...}}` or a port's name."""
    entries = fields.mapping(node, "the protocol", (*_PROTOCOLS, _NAMED), example=_EXAMPLE)
    if len(entries) != 1:
        said = " and ".join(entries) or "nothing"
        raise invalid(
            node.place,
            f"the item of protocols names {said}",
            f"name one, for example {_EXAMPLE}",
            instead(node, _EXAMPLE),
        )
    key, value = next(iter(entries.items()))
    if key == _NAMED:
        return PortSpec(name=port_fields.port_name(fields.string(value, _NAMED, "https"), value))
    known = ("destinationPort",)
    example = f"{{destinationPort: {_EVERY_PORT}}}"
    inner = fields.mapping(value, key, known, needed=known, example=example)
    if "destinationPort" not in inner:
        raise fields.lacks(value, f"{key} names no port", "destinationPort", _EVERY_PORT)
    return PortSpec(key, *_port(inner["destinationPort"]))


def _port(node: Node) -> tuple[int, int]:
    known = ("number", "range")
    entries = fields.mapping(node, "destinationPort", known, example="{number: 443}")
    if len(entries) != 1:
        said = "both number and range" if entries else "neither number nor range"
        raise invalid(
            node.place,
            f"destinationPort has {said}",
            "for example {number: 443}",
            instead(node, "{number: 443}"),
        )
    if "number" in entries:
        number = port_fields.number(entries["number"], "number")
        return number, number
    value = entries["range"]
    ends = ("start", "end")
    inner = fields.mapping(value, "range", ends, needed=ends, example="{start: 8000, end: 8010}")
    return port_fields.start_and_end(inner, value, "range")


DIALECT = Dialect(
    KIND,
    {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    ports="protocols",
    example=_EXAMPLE,
    port=_protocol,
    most=25,
    names=True,
    needs_namespaces=False,
)

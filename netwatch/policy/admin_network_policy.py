"""Reads AdminNetworkPolicy and BaselineAdminNetworkPolicy, policy.networking.k8s.io/v1alpha1.

They are the ancestors of ClusterNetworkPolicy and mean what its two tiers mean: Allow is Accept,
and the one BaselineAdminNetworkPolicy, which has no priority, is asked last of its tier.
"""

from __future__ import annotations

from dataclasses import replace

from netwatch.policy import fields
from netwatch.policy.ir import Action, Mode, Place, Policy, PortSpec, Tier
from netwatch.policy.nodes import Node, invalid
from netwatch.policy.tiers import MAX_PRIORITY, Dialect, read_priority, read_tier

KIND = "AdminNetworkPolicy"
BASELINE_KIND = "BaselineAdminNetworkPolicy"
BASELINE_NAME = "default"
"""The API allows one BaselineAdminNetworkPolicy in a cluster, of this name."""

_KEYS = ("portNumber", "portRange", "namedPort")


def read_admin_network_policy(spec: Node, *, name: str, mode: Mode, place: Place) -> Policy:
    """The policy of the Admin tier; raises InvalidDocument or InvalidPolicies."""
    known = ("priority", "subject", "ingress", "egress")
    entries = fields.mapping(spec, "spec", known)
    return read_tier(
        spec,
        entries,
        dialect=_ADMIN,
        name=name,
        mode=mode,
        place=place,
        tier=Tier.ADMIN,
        priority=read_priority(spec, entries.get("priority")),
    )


def read_baseline_admin_network_policy(
    spec: Node, *, name: str, mode: Mode, place: Place
) -> Policy:
    """The policy of the Baseline tier; raises InvalidDocument or InvalidPolicies."""
    return read_tier(
        spec,
        fields.mapping(spec, "spec", ("subject", "ingress", "egress")),
        dialect=_BASELINE,
        name=name,
        mode=mode,
        place=place,
        tier=Tier.BASELINE,
        priority=MAX_PRIORITY,
    )


def _port(node: Node) -> PortSpec:
    """One item of `ports`: portNumber, portRange or namedPort."""
    entries = fields.mapping(node, "the port", _KEYS)
    if len(entries) != 1:
        said = " and ".join(entries) or "nothing"
        raise invalid(
            node.place,
            f"the item of ports names {said}",
            "name one, for example portNumber: {protocol: TCP, port: 443}",
        )
    key, value = next(iter(entries.items()))
    if key == "namedPort":
        return PortSpec(name=fields.port_name(fields.string(value, key, "https"), value))
    if key == "portRange":
        inner = fields.mapping(value, key, ("protocol", "start", "end"))
        protocol = fields.protocol(inner.get("protocol"), known=fields.LOWER)
        return PortSpec(protocol, *fields.start_and_end(inner, value, key))
    inner = fields.mapping(value, key, ("protocol", "port"))
    if "port" not in inner:
        raise invalid(value.place, "portNumber has no port", "add port: 443, say")
    number = fields.number(inner["port"], "port")
    protocol = fields.protocol(inner.get("protocol"), known=fields.LOWER)
    return PortSpec(protocol, number, number)


_ADMIN = Dialect(
    KIND,
    {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    ports="ports",
    port=_port,
    most=100,
    names=True,
    needs_namespaces=True,
)
_BASELINE = replace(
    _ADMIN,
    kind=BASELINE_KIND,
    actions={"Allow": Action.ALLOW, "Deny": Action.DENY},
    names=False,
)

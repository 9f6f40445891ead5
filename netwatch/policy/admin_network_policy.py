"""Reads AdminNetworkPolicy and BaselineAdminNetworkPolicy, policy.networking.k8s.io/v1alpha1.

They are the ancestors of ClusterNetworkPolicy and mean what its two tiers mean: Allow is Accept,
and the one BaselineAdminNetworkPolicy, which has no priority, is asked last of its tier.
"""

from __future__ import annotations

from dataclasses import replace

from netwatch.policy import fields, port_fields
from netwatch.policy.edits import instead
from netwatch.policy.ir import Action, Mode, Place, Policy, PortSpec, Tier
from netwatch.policy.nodes import Node, invalid
from netwatch.policy.tiers import MAX_PRIORITY, Dialect, read_priority, read_tier

KIND = "AdminNetworkPolicy"
BASELINE_KIND = "BaselineAdminNetworkPolicy"
SPEC = "{priority: 500, subject: {namespaces: {}}}"
BASELINE_SPEC = "{subject: {namespaces: {}}}"
BASELINE_NAME = "default"
"""The API allows one BaselineAdminNetworkPolicy in a cluster, of this name."""

EXAMPLE = "{portNumber: {protocol: TCP, port: 443}}"
_KEYS = ("portNumber", "portRange", "namedPort")


def read_admin_network_policy(spec: Node, *, name: str, mode: Mode, place: Place) -> Policy:
    """The policy of the Admin tier; raises InvalidDocument or InvalidPolicies."""
    known = ("priority", "subject", "ingress", "egress")
    entries = fields.mapping(spec, "spec", known, needed=("priority", "subject"), example=SPEC)
    return read_tier(
        spec,
        entries,
        dialect=ADMIN,
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
        fields.mapping(
            spec,
            "spec",
            ("subject", "ingress", "egress"),
            needed=("subject",),
            example=BASELINE_SPEC,
        ),
        dialect=BASELINE,
        name=name,
        mode=mode,
        place=place,
        tier=Tier.BASELINE,
        priority=MAX_PRIORITY,
    )


def _port(node: Node) -> PortSpec:
    """One item of `ports`: portNumber, portRange or namedPort."""
    entries = fields.mapping(node, "the port", _KEYS, example=EXAMPLE)
    if len(entries) != 1:
        said = " and ".join(entries) or "nothing"
        raise invalid(
            node.place,
            f"the item of ports names {said}",
            f"name one, for example {EXAMPLE}",
            instead(node, EXAMPLE),
        )
    key, value = next(iter(entries.items()))
    if key == "namedPort":
        return PortSpec(name=port_fields.port_name(fields.string(value, key, "https"), value))
    if key == "portRange":
        known = ("protocol", "start", "end")
        inner = fields.mapping(
            value, key, known, needed=known[1:], example="{start: 8000, end: 8010}"
        )
        protocol = port_fields.protocol(inner.get("protocol"), known=port_fields.LOWER)
        return PortSpec(protocol, *port_fields.start_and_end(inner, value, key))
    inner = fields.mapping(
        value, key, ("protocol", "port"), needed=("port",), example="{port: 443}"
    )
    if "port" not in inner:
        raise fields.lacks(value, "portNumber has no port", "port", "443")
    number = port_fields.number(inner["port"], "port")
    protocol = port_fields.protocol(inner.get("protocol"), known=port_fields.LOWER)
    return PortSpec(protocol, number, number)


ADMIN = Dialect(
    KIND,
    {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    ports="ports",
    example=EXAMPLE,
    port=_port,
    most=100,
    names=True,
    needs_namespaces=True,
)
BASELINE = replace(
    ADMIN,
    kind=BASELINE_KIND,
    actions={"Allow": Action.ALLOW, "Deny": Action.DENY},
    names=False,
)

"""Policies in other forms: their own YAML, Kubernetes YAML, and a graph for Graphviz.

What has no equal in the other form is refused with the reason, and what the result decides
differently is told: nobody learns from an outage what a conversion left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from netwatch.model.errors import NetwatchError
from netwatch.policy import networks
from netwatch.policy.difference import difference
from netwatch.policy.ir import (
    Action,
    HostPeer,
    InternetPeer,
    NetworkPeer,
    PeerSpec,
    Policy,
    PortSpec,
    Rule,
    World,
)
from netwatch.policy.writing import as_text

_MAPPED = "::ffff:"


def to_netwatch(policies: Sequence[Policy]) -> str:
    """Every document in its own kind, as YAML."""
    return as_text(policies)


def to_kubernetes(policies: Sequence[Policy], world: World) -> str:
    """NetworkPolicy objects; a Segment becomes one where it says nothing that has no equal.

    The internet is written as the networks that it is in this world. A NetworkPolicy always lets
    the host in: `differences` tells where that is more. Raises NetwatchError with the document and
    the reason.
    """
    return as_text([_as_network_policy(policy, world) for policy in policies])


def _as_network_policy(policy: Policy, world: World) -> Policy:
    if policy.kind == "NetworkPolicy":
        return policy
    if policy.kind != "Segment":
        raise _refused(policy, "only Segments become NetworkPolicy objects")
    if policy.namespace is None:
        raise _refused(policy, "it governs every namespace, and a NetworkPolicy one")
    for isolated, rules in (
        (policy.isolates_ingress, policy.ingress),
        (policy.isolates_egress, policy.egress),
    ):
        if rules and not isolated:
            raise _refused(policy, "its rules do not isolate, and those of a NetworkPolicy do")
    return replace(
        policy,
        kind="NetworkPolicy",
        ingress=tuple(_rule(policy, rule, world, ingress=True) for rule in policy.ingress),
        egress=tuple(_rule(policy, rule, world, ingress=False) for rule in policy.egress),
    )


def _rule(policy: Policy, rule: Rule, world: World, *, ingress: bool) -> Rule:
    if rule.action is not Action.ALLOW:
        raise _refused(policy, f"the rule at {rule.place} denies, and NetworkPolicy rules allow")
    if rule.exception or rule.expires is not None:
        raise _refused(policy, f"the rule at {rule.place} ends, and a NetworkPolicy stays")
    if rule.obligation is not None:
        raise _refused(policy, f"the rule at {rule.place} demands encryption")
    peers: list[PeerSpec] = []
    for peer in rule.peers:
        if isinstance(peer, InternetPeer):
            peers.extend(map(_writable, networks.internet(world)))
        elif isinstance(peer, HostPeer) and not ingress:
            raise _refused(policy, f"the rule at {rule.place} names the host as destination")
        elif not isinstance(peer, HostPeer):  # upstream, the node may in anyway
            peers.append(peer)
    if rule.peers and not peers:
        raise _refused(policy, f"the rule at {rule.place} is about the host alone")
    return Rule(rule.place, tuple(peers), tuple(_ports(rule)))


def _writable(peer: NetworkPeer) -> NetworkPeer:
    """Without the mapped IPv4 addresses: no packet has one, and no document may name them."""
    return replace(peer, excepts=tuple(e for e in peer.excepts if not e.startswith(_MAPPED)))


def _ports(rule: Rule) -> Iterator[PortSpec]:
    """A port's name without a protocol is one for each, as NetworkPolicy has it."""
    for spec in rule.ports:
        if spec.protocol is not None:
            yield spec
        else:
            yield from (replace(spec, protocol=protocol) for protocol in ("tcp", "udp", "sctp"))


def _refused(policy: Policy, why: str) -> NetwatchError:
    return NetwatchError(
        f"{policy.title} ({policy.place}) has no equal in Kubernetes: {why}",
        "export it with --to netwatch",
        code="no-equal",
    )


def differences(
    policies: Sequence[Policy], exported: Sequence[Policy], world: World, *, now: int
) -> tuple[str, ...]:
    """What the exported documents decide differently in this world, in sentences."""
    return tuple(
        f"{change.source} {'reaches' if change.kind == 'gained' else 'no longer reaches'}"
        f" {change.destination} on {', '.join(map(str, change.ports))}"
        for change in difference(policies, exported, world, now=now)
    )


def to_dot(policies: Sequence[Policy], world: World, *, now: int) -> str:
    """What the rules of these documents allow, as a Graphviz digraph: who reaches whom on what.

    Only calls to somebody isolated are drawn; where nothing isolates, everybody reaches everybody.
    """
    nothing = [
        replace(p, ingress=(), egress=())
        for p in policies
        if p.isolates_ingress or p.isolates_egress
    ]
    allowed = difference(nothing, policies, world, now=now)
    names = sorted({name for c in allowed for name in (c.source, c.destination)})
    lines = ["digraph netwatch {", "  rankdir=LR;", "  node [shape=box];"]
    lines += [f"  {_quoted(name)};" for name in names]
    lines += _edges((c.source, c.destination, ", ".join(map(str, c.ports))) for c in allowed)
    return "\n".join([*lines, "}"]) + "\n"


def _edges(edges: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    for source, destination, ports in edges:
        yield f"  {_quoted(source)} -> {_quoted(destination)} [label={_quoted(ports)}];"


def _quoted(text: str) -> str:
    """A string of DOT: quotes and backslashes escaped, and no line can be broken out of."""
    return json.dumps("".join(c if c.isprintable() else "?" for c in text), ensure_ascii=False)

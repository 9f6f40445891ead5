"""Policies in other forms: their own YAML, Kubernetes YAML, and a graph for Graphviz.

What has no equal in the other form is refused with the reason, and what the result decides
differently is told: nobody learns from an outage what a conversion left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from netwatch.policy import calico, cilium
from netwatch.policy.difference import difference
from netwatch.policy.ir import Action, Policy, Rule, World
from netwatch.policy.unequal import check_rule, no_equal, one_protocol_each, peers_there
from netwatch.policy.writing import as_text, dumped

_KUBERNETES = "Kubernetes"


def to_netwatch(policies: Sequence[Policy]) -> str:
    """Every document in its own kind, as YAML."""
    return as_text(policies)


def to_kubernetes(policies: Sequence[Policy], world: World) -> str:
    """What a cluster takes; a Segment becomes a NetworkPolicy where it says nothing more than one.

    The internet is written as the networks that it is in this world. A NetworkPolicy always lets
    the host in: `differences` tells where that is more. Raises NetwatchError with the document and
    the reason.
    """
    written = [_as_kubernetes(policy, world) for policy in policies]
    return as_text([p for p in written if p.kind != "NetworkPolicy" or _isolates(p)])


def _isolates(policy: Policy) -> bool:
    """A Segment may isolate nothing; a NetworkPolicy always does."""
    return policy.isolates_ingress or policy.isolates_egress


def _as_kubernetes(policy: Policy, world: World) -> Policy:
    if policy.kind != "Segment":
        return policy
    if policy.namespace is None:
        raise no_equal(policy, _KUBERNETES, "it governs every namespace, and a NetworkPolicy one")
    for isolated, rules in (
        (policy.isolates_ingress, policy.ingress),
        (policy.isolates_egress, policy.egress),
    ):
        if rules and not isolated:
            why = "its rules do not isolate, and those of a NetworkPolicy do"
            raise no_equal(policy, _KUBERNETES, why)
    return replace(
        policy,
        kind="NetworkPolicy",
        ingress=tuple(_rule(policy, rule, world, ingress=True) for rule in policy.ingress),
        egress=tuple(_rule(policy, rule, world, ingress=False) for rule in policy.egress),
    )


def _rule(policy: Policy, rule: Rule, world: World, *, ingress: bool) -> Rule:
    if rule.action is not Action.ALLOW:
        why = f"the rule at {rule.place} denies, and NetworkPolicy rules allow"
        raise no_equal(policy, _KUBERNETES, why)
    check_rule(policy, rule, _KUBERNETES)
    peers = peers_there(policy, rule, world, _KUBERNETES, ingress=ingress)
    if peers is None:
        raise no_equal(policy, _KUBERNETES, f"the rule at {rule.place} is about the host alone")
    return Rule(rule.place, peers, tuple(one_protocol_each(rule.ports)))


def to_calico(policies: Sequence[Policy], world: World) -> str:
    """Calico's objects, tiers included; raises NetwatchError for what Calico can not say."""
    return "---\n".join(map(dumped, calico.to_calico(policies, world)))


def to_cilium(policies: Sequence[Policy], world: World) -> str:
    """Cilium's objects; raises NetwatchError for what Cilium can not say."""
    return "---\n".join(map(dumped, cilium.to_cilium(policies, world)))


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

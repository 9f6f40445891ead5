"""The order of judgement, written out once more: every rule of every document, no index, no cache.

It exists to hold the quick Judge to the text of the semantics, so it shares with it only the
smallest questions of `match`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netwatch.policy.ir import Action, Party, Policy, Rule, Tier, World
from netwatch.policy.match import governs, is_host, peer_matches, port_matches


def plainly(
    policies: Sequence[Policy],
    world: World,
    source: Party,
    destination: Party,
    protocol: str,
    port: int | None,
) -> str:
    """allow or deny, at the beginning of time: nothing has expired."""
    if source.workload is not None and source.workload is destination.workload:
        return "allow"
    permits = all(
        _permits(policies, world, own, other, ingress, (destination, protocol, port))
        for own, other, ingress in (
            (source, destination, False),
            (destination, source, True),
        )
    )
    return "allow" if permits else "deny"


def _permits(
    policies: Sequence[Policy],
    world: World,
    own: Party,
    other: Party,
    ingress: bool,
    called: tuple[Party, str, int | None],
) -> bool:
    workload = own.workload
    if workload is None or is_host(own):
        return True
    mine = [policy for policy in policies if governs(policy, workload, world)]

    def meant(tier: Tier) -> list[Rule]:
        near = [policy for policy in mine if policy.tier is tier]
        near.sort(key=lambda policy: policy.priority)
        return [
            rule
            for policy in near
            for rule in (policy.ingress if ingress else policy.egress)
            if _matches(rule, policy.namespace, world, other, called)
        ]

    first = _verdict(meant(Tier.ADMIN))
    if first is not None:
        return first
    rules = meant(Tier.MIDDLE)
    if any(rule.exception for rule in rules):
        return True
    if any(rule.action is Action.DENY for rule in rules):
        return False
    if rules:
        return True
    isolating = [p for p in mine if (p.isolates_ingress if ingress else p.isolates_egress)]
    if isolating:
        upstream = all(policy.kind == "NetworkPolicy" for policy in isolating)
        return ingress and is_host(other) and upstream
    return _verdict(meant(Tier.BASELINE)) is not False


def _verdict(rules: Iterable[Rule]) -> bool | None:
    """What the first rule says; None if it passes the call on, or if there is none."""
    for rule in rules:
        return None if rule.action is Action.PASS else rule.action is Action.ALLOW
    return None


def _matches(
    rule: Rule,
    namespace: str | None,
    world: World,
    other: Party,
    called: tuple[Party, str, int | None],
) -> bool:
    destination, protocol, port = called
    near = not rule.peers or any(
        peer_matches(peer, namespace, world, other) for peer in rule.peers
    )
    return near and (
        not rule.ports
        or any(
            port_matches(spec, protocol, port, destination=destination.workload)
            for spec in rule.ports
        )
    )

"""What is allowed to be written and still is probably not meant.

A finding ends `policy check` with 3; a warning is only said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netwatch.policy.conflicts import contradicts, covers_rule
from netwatch.policy.ir import (
    Action,
    NamePeer,
    NetworkPeer,
    PeerSpec,
    Place,
    Policy,
    Rule,
    Tier,
    WorkloadPeer,
)
from netwatch.policy.match import port_matches


@dataclass(frozen=True, slots=True)
class Remark:
    """`code` names the kind of remark, `severity` is finding or warning."""

    code: str
    severity: str
    message: str
    hint: str
    place: Place


def lint(policies: Sequence[Policy], *, now: int) -> tuple[Remark, ...]:
    """Every remark on these documents, in the order of places. `now` in nanoseconds."""
    remarks = [*_without_dns(policies)]
    for policy in policies:
        remarks.extend(_on_document(policy))
        for rules in (policy.ingress, policy.egress):
            middle = policy.tier is Tier.MIDDLE
            remarks.extend(_covered(rules) if middle else _unreachable(rules))
            for rule in rules:
                remarks.extend(_on_rule(policy, rule, now))
    return tuple(sorted(remarks, key=lambda r: (r.place.file, r.place.line, r.code)))


def _on_document(policy: Policy) -> Iterator[Remark]:
    if contradicts(policy.subject) or contradicts(policy.namespaces):
        yield Remark(
            "governs-nobody",
            "finding",
            f"no workload can have the labels that {policy.title} governs",
            "two of its conditions exclude each other: remove one",
            policy.place,
        )
    isolates = policy.isolates_ingress or policy.isolates_egress
    if not isolates and not policy.ingress and not policy.egress:
        yield Remark(
            "says-nothing",
            "finding",
            f"{policy.title} has no rule and isolates nothing",
            "add rules, or ingress: isolated",
            policy.place,
        )
    for rule in policy.ignored:
        yield Remark(
            "ignored",
            "finding",
            f"policyTypes of {policy.title} leaves this rule's direction out, so it means nothing",
            "add the direction to policyTypes, or remove the rule",
            rule.place,
        )
    for word, isolated, rules in (
        ("ingress", policy.isolates_ingress, policy.ingress),
        ("egress", policy.isolates_egress, policy.egress),
    ):
        if isolated and rules and all(rule.action is Action.DENY for rule in rules):
            yield Remark(
                "denies-everything",
                "finding",
                f"every {word} rule of {policy.title} denies, so nothing at all is allowed",
                f"say {word}: open if only these calls are to be denied",
                rules[0].place,
            )


def _on_rule(policy: Policy, rule: Rule, now: int) -> Iterator[Remark]:
    if rule.expires is not None and now >= rule.expires:
        yield Remark(
            "expired",
            "finding",
            "this rule has expired and says nothing any more",
            "remove it, or have its owner renew it",
            rule.place,
        )
    if rule.exception and rule.because is None:
        yield Remark(
            "unjustified",
            "finding",
            "this exception does not say why",
            "add because: with the reason",
            rule.place,
        )
    if rule.action is Action.ALLOW and not rule.ports and _is_everybody(rule.peers):
        upstream = policy.kind != "Segment"
        if upstream or rule.because is None:
            yield Remark(
                "too-wide",
                "warning" if upstream else "finding",
                "this rule allows everybody on every port",
                "name peers or ports" if upstream else "name peers or ports, or say because",
                rule.place,
            )
    if any(isinstance(peer, NamePeer) for peer in rule.peers):
        yield Remark(
            "needs-names",
            "warning",
            "this rule matches only addresses that its DNS names are known to have,"
            " and a host that knows none lets nobody through by it",
            "where names are not learned, name networks",
            rule.place,
        )
    for peer in rule.peers:
        if isinstance(peer, WorkloadPeer) and _matches_nobody(peer):
            yield Remark(
                "matches-nobody",
                "finding",
                "no workload can be the peer of this rule",
                "two of its conditions exclude each other: remove one",
                rule.place,
            )


def _is_everybody(peers: Sequence[PeerSpec]) -> bool:
    return not peers or any(
        isinstance(peer, NetworkPeer) and peer.cidr.endswith("/0") and not peer.excepts
        for peer in peers
    )


def _matches_nobody(peer: WorkloadPeer) -> bool:
    return contradicts(peer.workloads) or (
        peer.namespaces is not None and contradicts(peer.namespaces)
    )


def _covered(rules: Sequence[Rule]) -> Iterator[Remark]:
    """Rules that change nothing because another rule of the document says as much or more."""
    for index, rule in enumerate(rules):
        for position, other in enumerate(rules):
            if index == position or not _covers(other, rule):
                continue
            if _covers(rule, other) and index < position and rule.action is other.action:
                continue
            yield Remark(
                "shadowed",
                "finding",
                f"this rule changes nothing, because the rule at {other.place} covers it",
                "remove one of the two",
                rule.place,
            )
            break


def _covers(wide: Rule, narrow: Rule) -> bool:
    """Whether whatever `narrow` could say is settled by `wide` already."""
    if wide.expires is not None or wide.exception != narrow.exception:
        return False
    if narrow.action is Action.DENY and wide.action is Action.ALLOW:
        return False
    return wide.obligation in (None, narrow.obligation) and covers_rule(wide, narrow)


def _unreachable(rules: Sequence[Rule]) -> Iterator[Remark]:
    """Rules of a tier that never decide, because one before them decides all that they mean."""
    for index, rule in enumerate(rules):
        for earlier in rules[:index]:
            if covers_rule(earlier, rule):
                yield Remark(
                    "unreachable",
                    "finding",
                    f"this rule never decides, because the rule at {earlier.place} comes first",
                    "remove it, or move it up",
                    rule.place,
                )
                break


def _without_dns(policies: Sequence[Policy]) -> Iterator[Remark]:
    """Isolated egress where no document of the namespace allows port 53 over UDP."""
    for policy in policies:
        near = [p for p in policies if None in (p.namespace, policy.namespace)]
        near += [p for p in policies if p.namespace == policy.namespace is not None]
        if policy.isolates_egress and not any(_allows_dns(r) for p in near for r in p.egress):
            yield Remark(
                "no-dns",
                "warning",
                f"{policy.title} isolates egress, and no document lets its namespace ask DNS",
                "if it needs names, allow its resolver on 53/udp",
                policy.place,
            )


def _allows_dns(rule: Rule) -> bool:
    return rule.action is Action.ALLOW and (
        not rule.ports
        or any(port_matches(spec, "udp", 53, destination=None) for spec in rule.ports)
        or any(spec.name is not None and "dns" in spec.name for spec in rule.ports)
    )

"""What is allowed to be written and still is probably not meant.

A finding ends `policy check` with 3; a warning is only said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from netwatch.policy.ir import (
    Action,
    NetworkPeer,
    Operator,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Rule,
    Selector,
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
            remarks.extend(_covered(rules))
            for rule in rules:
                remarks.extend(_on_rule(policy, rule, now))
    return tuple(sorted(remarks, key=lambda r: (r.place.file, r.place.line, r.code)))


def _on_document(policy: Policy) -> Iterator[Remark]:
    if _contradicts(policy.subject):
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
        upstream = policy.kind == "NetworkPolicy"
        if upstream or rule.because is None:
            yield Remark(
                "too-wide",
                "warning" if upstream else "finding",
                "this rule allows everybody on every port",
                "name peers or ports" if upstream else "name peers or ports, or say because",
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
    return _contradicts(peer.workloads) or (
        peer.namespaces is not None and _contradicts(peer.namespaces)
    )


def _contradicts(selector: Selector) -> bool:
    """Whether the conditions on some one key exclude each other."""
    for key in {requirement.key for requirement in selector.requirements}:
        present = [r for r in selector.requirements if r.key == key]
        listed = [r.values for r in present if r.operator is Operator.IN]
        needs = bool(listed) or any(r.operator is Operator.EXISTS for r in present)
        if needs and any(r.operator is Operator.DOES_NOT_EXIST for r in present):
            return True
        refused = {v for r in present if r.operator is Operator.NOT_IN for v in r.values}
        if listed and not frozenset.intersection(*listed) - refused:
            return True
    return False


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
    if wide.obligation not in (None, narrow.obligation):
        return False
    if wide.peers and not (narrow.peers and set(narrow.peers) <= set(wide.peers)):
        return False
    return not wide.ports or (
        bool(narrow.ports) and all(_port_in(spec, wide.ports) for spec in narrow.ports)
    )


def _port_in(spec: PortSpec, ports: Iterable[PortSpec]) -> bool:
    return any(_includes(other, spec) for other in ports)


def _includes(wide: PortSpec, narrow: PortSpec) -> bool:
    if wide == narrow:
        return True
    if wide.protocol not in (None, narrow.protocol) or wide.name is not None:
        return False
    if wide.first is None:
        return True
    if narrow.first is None:
        return False
    return wide.first <= narrow.first and (narrow.last or narrow.first) <= (wide.last or 0)


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

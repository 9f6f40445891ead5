"""Documents of one priority that could disagree: which of them decides would be left to chance.

Two rules conflict if some call may be the first match of both and their actions differ. What
labels a workload can have is decided exactly, key by key; whether a workload's address is in a
network can not be known from documents, so there a conflict is assumed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from itertools import combinations

from netwatch.model.errors import InvalidDocument
from netwatch.policy.ir import (
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
from netwatch.policy.nodes import invalid


def conflicts(policies: Sequence[Policy]) -> Iterator[tuple[InvalidDocument, Policy]]:
    """One error for each two documents of one tier and priority that could disagree, and which."""
    ranked: dict[tuple[Tier, int], list[Policy]] = {}
    for policy in policies:
        if policy.tier is not Tier.MIDDLE:
            ranked.setdefault((policy.tier, policy.priority), []).append(policy)
    for group in ranked.values():
        if len({r.action for policy in group for r in (*policy.ingress, *policy.egress)}) < 2:
            continue
        for one, other in combinations(group, 2):
            if found := _conflict(one, other):
                yield _error(one, other, *found), other


def _error(one: Policy, other: Policy, first: Rule, second: Rule) -> InvalidDocument:
    return invalid(
        second.place,
        f"{other.title} and {one.title} have priority {one.priority}, and this rule says"
        f" {second.action} where the rule at {first.place} says {first.action}",
        "give one of the two documents another priority: the lower number decides",
    )


def _conflict(one: Policy, other: Policy) -> tuple[Rule, Rule] | None:
    """The first two rules that some call could meet first in both documents."""
    if not _overlap(one.namespaces, other.namespaces) or not _overlap(one.subject, other.subject):
        return None
    for rules, others in ((one.ingress, other.ingress), (one.egress, other.egress)):
        for index, rule in enumerate(rules):
            for position, second in enumerate(others):
                if (
                    rule.action is not second.action
                    and _may_meet(rule, second)
                    and not any(covers_rule(earlier, second) for earlier in rules[:index])
                    and not any(covers_rule(earlier, rule) for earlier in others[:position])
                ):
                    return rule, second
    return None


def _may_meet(one: Rule, other: Rule) -> bool:
    """Whether some call could be meant by both rules."""
    return any(_same_peer(a, b) for a in one.peers for b in other.peers) and (
        not one.ports
        or not other.ports
        or any(_same_port(a, b) for a in one.ports for b in other.ports)
    )


def _same_peer(one: PeerSpec, other: PeerSpec) -> bool:
    if isinstance(one, WorkloadPeer) and isinstance(other, WorkloadPeer):
        spaces = one.namespaces, other.namespaces
        return _overlap(one.workloads, other.workloads) and (
            None in spaces or _overlap(*(s for s in spaces if s is not None))
        )
    if isinstance(one, NetworkPeer) and isinstance(other, NetworkPeer):
        nets = [ipaddress.ip_network(peer.cidr, strict=False) for peer in (one, other)]
        return nets[0].version == nets[1].version and nets[0].overlaps(nets[1])
    return True


def _same_port(one: PortSpec, other: PortSpec) -> bool:
    if None not in (one.protocol, other.protocol) and one.protocol != other.protocol:
        return False
    if one.first is None or other.first is None:  # a name could be any number
        return one.name is None or other.name is None or one.name == other.name
    return one.first <= (other.last or other.first) and other.first <= (one.last or one.first)


def _overlap(one: Selector, other: Selector) -> bool:
    """Whether something can have labels that both select."""
    return not contradicts(Selector((*one.requirements, *other.requirements)))


def contradicts(selector: Selector) -> bool:
    """Whether the conditions on some one key exclude each other, so that nothing is selected."""
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


def covers_rule(wide: Rule, narrow: Rule) -> bool:
    """Whether every call that `narrow` means is meant by `wide`, whatever they say of it."""
    if wide.peers and not (narrow.peers and set(narrow.peers) <= set(wide.peers)):
        return False
    return not wide.ports or (
        bool(narrow.ports) and all(_port_in(spec, wide.ports) for spec in narrow.ports)
    )


def _port_in(spec: PortSpec, ports: Sequence[PortSpec]) -> bool:
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

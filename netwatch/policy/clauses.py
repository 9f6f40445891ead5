"""The rules that judge one direction of a workload, in the order in which they are asked.

In the middle tier order means nothing, and is only kept so that the same rule is always named; in
the tiers around it the first rule that matches decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netwatch.model.workload import Workload
from netwatch.policy.ir import LINK_ENCRYPTED, Action, Place, Policy, Rule, Tier
from netwatch.policy.judgement import Clause
from netwatch.policy.match import port_matches

MAX_MET = 4_096
"""Kinds of parties whose clauses are kept ready for the workloads of one group."""

_STRICTNESS = (
    None,
    "encrypted",
    "tls>=1.0",
    "tls>=1.1",
    "tls>=1.2",
    "tls>=1.3",
    "link-encrypted",
)


@dataclass(frozen=True, slots=True)
class Face:
    """The set of peers that a party is; parties that look alike to every rule share it."""

    number: int
    peers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The clauses of one workload that one peer meets, whatever the port, each kind in order."""

    admin: tuple[Clause, ...]
    exceptions: tuple[Clause, ...]
    denies: tuple[Clause, ...]
    allows: tuple[Clause, ...]
    baseline: tuple[Clause, ...]


class Side:
    """One direction of all workloads that the same documents govern: clauses by peer."""

    def __init__(self, clauses: Iterable[tuple[Clause, frozenset[int]]]) -> None:
        self._anyone: list[Clause] = []
        self._by_peer: dict[int, list[Clause]] = {}
        for clause, peers in clauses:
            if not peers:
                self._anyone.append(clause)
            for peer in peers:
                self._by_peer.setdefault(peer, []).append(clause)
        self._peers = frozenset(self._by_peer)
        self._met: dict[int, Candidates] = {}
        self._stranger = in_order(self._anyone)

    def candidates(self, face: Face) -> Candidates:
        """The clauses that a party of this face meets, in order."""
        if self._peers.isdisjoint(face.peers):
            return self._stranger
        known = self._met.get(face.number)
        if known is None:
            met = [c for peer in face.peers for c in self._by_peer.get(peer, ())]
            known = in_order([*self._anyone, *met])
            if len(self._met) >= MAX_MET:
                self._met.clear()
            self._met[face.number] = known
        return known


def in_order(clauses: Iterable[Clause]) -> Candidates:
    """The same clauses, each once, by kind and rank."""
    met = {clause.rank: clause for clause in clauses}
    ordered = [met[rank] for rank in sorted(met)]
    middle = [c for c in ordered if c.policy.tier is Tier.MIDDLE]
    return Candidates(
        tuple(c for c in ordered if c.policy.tier is Tier.ADMIN),
        tuple(c for c in middle if c.rule.exception),
        tuple(c for c in middle if c.rule.action is Action.DENY),
        tuple(c for c in middle if c.rule.action is Action.ALLOW),
        tuple(c for c in ordered if c.policy.tier is Tier.BASELINE),
    )


@dataclass(frozen=True, slots=True)
class Clauses:
    """The clauses of one document."""

    ingress: tuple[Clause, ...]
    egress: tuple[Clause, ...]


def ranked(policies: Sequence[Policy]) -> list[Clauses]:
    """Every rule with its rank: the order in which the rules of one tier are asked."""
    flat = [
        (_turn(policy, number, place, rule), number, ingress, rule)
        for number, policy in enumerate(policies)
        for ingress, rules in ((True, policy.ingress), (False, policy.egress))
        for place, rule in enumerate(rules)
    ]
    flat.sort(key=lambda item: item[0])  # stable, where two rules have one place
    sides: list[tuple[list[Clause], list[Clause]]] = [([], []) for _ in policies]
    for rank, (_, number, ingress, rule) in enumerate(flat):
        sides[number][0 if ingress else 1].append(Clause(rank, policies[number], rule))
    return [Clauses(tuple(ingress), tuple(egress)) for ingress, egress in sides]


def _turn(
    policy: Policy, number: int, place: int, rule: Rule
) -> tuple[int, int, tuple[str, int, int]]:
    """In the middle the least demanding first, then by document and place in the file; in the
    other tiers by priority, document and place in the document."""
    if policy.tier is Tier.MIDDLE:
        return 2 * _STRICTNESS.index(rule.obligation) + rule.strict, number, _spot(rule.place)
    return policy.priority, number, ("", place, 0)


def first(
    clauses: tuple[Clause, ...],
    protocol: str,
    port: int | None,
    target: Workload | None,
    now: int,
    *,
    linked: bool = False,
) -> Clause | None:
    """The first clause that has not expired, whose ports hold, and whose link does (`linked`)."""
    for clause in clauses:
        rule = clause.rule
        if rule.obligation == LINK_ENCRYPTED and not linked:
            continue
        if rule.expires is not None and now >= rule.expires:
            continue
        if not rule.ports:
            return clause
        for spec in rule.ports:
            if port_matches(spec, protocol, port, destination=target):
                return clause
    return None


def decides(
    clauses: tuple[Clause, ...], protocol: str, port: int | None, target: Workload | None, now: int
) -> Clause | None:
    """The first clause of a tier that holds; none if it passes the call on."""
    found = first(clauses, protocol, port, target, now)
    return None if found is None or found.rule.action is Action.PASS else found


def _spot(place: Place) -> tuple[str, int, int]:
    return place.file, place.line, place.column

"""`decide`: what every policy means. Compiler, matrix, replay and explainer are held to this.

The order of judgement, for each end on its own: a workload reaches itself; an unexpired exception
permits; a Segment's deny denies; any allow permits; an isolated direction denies; else the call is
allowed. Both ends must permit: the source its egress, the destination its ingress.

`Judge` prepares documents and world once and answers many questions; its answers depend on
nothing but its arguments, and not on the order of documents or rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netwatch.model.workload import Workload
from netwatch.policy.ir import (
    Action,
    Decision,
    Mode,
    Party,
    Place,
    Policy,
    World,
)
from netwatch.policy.judgement import (
    Clause,
    Direction,
    Isolation,
    Judgement,
    allowed,
    denied,
    title,
)
from netwatch.policy.match import governs, is_host, port_matches
from netwatch.policy.peers import Peers

ENFORCED = frozenset({Mode.ENFORCE})
STAGED = frozenset({Mode.ENFORCE, Mode.STAGE})
MAX_REMEMBERED = 200_000
"""Parties kept ready; beyond it they are computed anew, as are the pairs below."""
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


def decide(
    policies: Sequence[Policy],
    world: World,
    source: Party,
    destination: Party,
    protocol: str,
    port: int | None,
    *,
    now: int = 0,
    modes: frozenset[Mode] = ENFORCED,
) -> Decision:
    """The verdict on one question; for many questions build one Judge.

    `protocol` is lower case, `port` the destination's, None where the protocol has none (ICMP).
    `now` is in nanoseconds since the epoch: rules that expired say nothing.
    """
    judge = Judge(policies, world, modes)
    return judge.decide(source, destination, protocol, port, now=now)


def isolation(
    policies: Iterable[Policy],
    world: World,
    workload: Workload,
    *,
    modes: frozenset[Mode] = ENFORCED,
) -> Isolation:
    """Who isolates this workload, among the documents of these modes."""
    return Judge(policies, world, modes).isolation(workload)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The clauses of one workload that one peer meets, whatever the port."""

    exceptions: tuple[Clause, ...]
    denies: tuple[Clause, ...]
    allows: tuple[Clause, ...]


class _Side:
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
        self._met: dict[int, _Candidates] = {}
        self._stranger = _sorted(self._anyone)

    def candidates(self, face: _Face) -> _Candidates:
        """The clauses that a party of this face meets, in order."""
        if self._peers.isdisjoint(face.peers):
            return self._stranger
        known = self._met.get(face.number)
        if known is None:
            met = [c for peer in face.peers for c in self._by_peer.get(peer, ())]
            known = _sorted([*self._anyone, *met])
            if len(self._met) >= MAX_MET:
                self._met.clear()
            self._met[face.number] = known
        return known


def _sorted(clauses: Iterable[Clause]) -> _Candidates:
    met = {clause.rank: clause for clause in clauses}
    ordered = [met[rank] for rank in sorted(met)]
    return _Candidates(
        tuple(c for c in ordered if c.rule.exception),
        tuple(c for c in ordered if c.rule.action is Action.DENY),
        tuple(c for c in ordered if c.rule.action is Action.ALLOW),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """What the same set of governing documents means, for each direction."""

    isolation: Isolation
    ingress: _Side
    egress: _Side


@dataclass(frozen=True, slots=True)
class _Face:
    """The set of peers that a party is; parties that look alike to every rule share it."""

    number: int
    peers: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Standing:
    """A party as the rules see it. `group` None: it is no workload and judges nothing."""

    party: Party
    title: str
    host: bool
    face: _Face
    group: _Group | None


class Judge:
    """Answers questions about one set of documents and one world."""

    def __init__(
        self, policies: Iterable[Policy], world: World, modes: frozenset[Mode] = ENFORCED
    ) -> None:
        self.world = world
        self.policies = tuple(sorted((p for p in policies if p.mode in modes), key=_order))
        self._peers = Peers(world)
        self._by_namespace: dict[str | None, list[int]] = {}
        for number, policy in enumerate(self.policies):
            self._by_namespace.setdefault(policy.namespace, []).append(number)
        self._clauses = _ranked(self.policies)
        self._clause_peers = {
            clause.rank: frozenset(
                self._peers.number(clause.policy.namespace, peer) for peer in clause.rule.peers
            )
            for clauses in self._clauses
            for clause in (*clauses.ingress, *clauses.egress)
        }
        self._faces: dict[frozenset[int], _Face] = {}
        self._groups: dict[tuple[int, ...], _Group] = {}
        self._workloads: dict[tuple[int, str | None, bool], _Standing] = {}
        self._others: dict[tuple[str | None, bool], _Standing] = {}

    def decide(
        self, source: Party, destination: Party, protocol: str, port: int | None, *, now: int = 0
    ) -> Decision:
        """The verdict on one question, as the function `decide` gives it."""
        start, end = self._standing(source), self._standing(destination)
        what = protocol if port is None else f"{protocol}/{port}"
        if _same(source, destination):
            return Decision("allow", f"{start.title} may always reach itself")
        target = destination.workload
        out = self._judge(Direction.EGRESS, start, end, protocol, port, target, now)
        if not out.permits:
            return denied(out, "source", start.title, end.title, what)
        into = self._judge(Direction.INGRESS, end, start, protocol, port, target, now)
        if not into.permits:
            return denied(into, "destination", start.title, end.title, what, also=out.isolating)
        return allowed(out, into, start.title, end.title, what)

    def isolation(self, workload: Workload) -> Isolation:
        """Who isolates this workload."""
        group = self._standing(Party(workload)).group
        return group.isolation if group else Isolation()

    def side(
        self,
        direction: Direction,
        subject: Party,
        other: Party,
        protocol: str,
        port: int | None,
        *,
        now: int = 0,
    ) -> Judgement:
        """How `subject` alone judges: its ingress from `other`, or its egress to it."""
        ends = self._standing(subject), self._standing(other)
        target = subject.workload if direction is Direction.INGRESS else other.workload
        return self._judge(direction, *ends, protocol, port, target, now)

    def _judge(
        self,
        direction: Direction,
        subject: _Standing,
        other: _Standing,
        protocol: str,
        port: int | None,
        target: Workload | None,
        now: int,
    ) -> Judgement:
        group = subject.group
        if group is None:
            return _OPEN
        if direction is Direction.INGRESS:
            side, isolating = group.ingress, group.isolation.ingress
        else:
            side, isolating = group.egress, group.isolation.egress
        met = side.candidates(other.face)
        if met.exceptions and (found := _first(met.exceptions, protocol, port, target, now)):
            return Judgement(True, found, isolating)
        if met.denies and (found := _first(met.denies, protocol, port, target, now)):
            return Judgement(False, found, isolating)
        if met.allows and (found := _first(met.allows, protocol, port, target, now)):
            return Judgement(True, found, isolating)
        implicit = other.host and direction is Direction.INGRESS and _only_upstream(isolating)
        return Judgement(implicit or not isolating, None, isolating)

    def _standing(self, party: Party) -> _Standing:
        """The party as the rules see it, remembered."""
        workload = party.workload
        if workload is not None:
            spot = (id(workload), party.address, party.host)
            known = self._workloads.get(spot)
            if known is None or known.party.workload is not workload:
                if len(self._workloads) >= MAX_REMEMBERED:
                    self._workloads.clear()
                known = self._stand(party)
                self._workloads[spot] = known
            return known
        key = (party.address, party.host)
        known = self._others.get(key)
        if known is None:
            if len(self._others) >= MAX_REMEMBERED:
                self._others.clear()
            known = self._others[key] = self._stand(party)
        return known

    def _stand(self, party: Party) -> _Standing:
        host = is_host(party)
        peers = self._peers.of(party)
        face = self._faces.setdefault(peers, _Face(len(self._faces), peers))
        group = self._group(party.workload) if party.workload and not host else None
        return _Standing(party, title(party), host, face, group)

    def _group(self, workload: Workload) -> _Group:
        near = self._by_namespace.get(workload.namespace, []) + self._by_namespace.get(None, [])
        chosen = tuple(sorted(i for i in near if governs(self.policies[i], workload)))
        known = self._groups.get(chosen)
        if known is None:
            policies = [self.policies[i] for i in chosen]
            known = self._groups[chosen] = _Group(
                Isolation(
                    tuple(p for p in policies if p.isolates_ingress),
                    tuple(p for p in policies if p.isolates_egress),
                ),
                self._side(c for i in chosen for c in self._clauses[i].ingress),
                self._side(c for i in chosen for c in self._clauses[i].egress),
            )
        return known

    def _side(self, clauses: Iterable[Clause]) -> _Side:
        return _Side((clause, self._clause_peers[clause.rank]) for clause in clauses)


_OPEN = Judgement(True, None, ())


@dataclass(frozen=True, slots=True)
class _Clauses:
    """The clauses of one document."""

    ingress: tuple[Clause, ...]
    egress: tuple[Clause, ...]


def _order(policy: Policy) -> tuple[str, str, str, str, int, int]:
    return policy.kind, policy.namespace or "", policy.name, *_spot(policy.place)


def _spot(place: Place) -> tuple[str, int, int]:
    return place.file, place.line, place.column


def _ranked(policies: Sequence[Policy]) -> list[_Clauses]:
    """Every rule with its rank: the least demanding first, then by document and place."""
    flat = [
        (_STRICTNESS.index(rule.obligation), number, ingress, rule)
        for number, policy in enumerate(policies)
        for ingress, rules in ((True, policy.ingress), (False, policy.egress))
        for rule in rules
    ]
    flat.sort(key=lambda item: (item[0], item[1], _spot(item[3].place)))
    sides: list[tuple[list[Clause], list[Clause]]] = [([], []) for _ in policies]
    for rank, (_, number, ingress, rule) in enumerate(flat):
        sides[number][0 if ingress else 1].append(Clause(rank, policies[number], rule))
    return [_Clauses(tuple(ingress), tuple(egress)) for ingress, egress in sides]


def _first(
    clauses: tuple[Clause, ...], protocol: str, port: int | None, target: Workload | None, now: int
) -> Clause | None:
    """The first clause that has not expired and whose ports hold."""
    for clause in clauses:
        rule = clause.rule
        if rule.expires is not None and now >= rule.expires:
            continue
        if not rule.ports:
            return clause
        for spec in rule.ports:
            if port_matches(spec, protocol, port, destination=target):
                return clause
    return None


def _only_upstream(isolating: tuple[Policy, ...]) -> bool:
    """Whether no Segment isolates: then the host is let in, as upstream lets the node in."""
    return all(policy.kind == "NetworkPolicy" for policy in isolating)


def _same(source: Party, destination: Party) -> bool:
    one, other = source.workload, destination.workload
    if one is None or other is None:
        return False
    return one is other or (one.name == other.name and one.identity == other.identity)

"""`decide`: what every policy means. Compiler, matrix, replay and explainer are held to this.

The order of judgement, for each end on its own: a workload reaches itself; the first rule of the
Admin tier that matches decides, unless it passes; an unexpired exception permits; a Segment's deny
denies; any allow permits; an isolated direction denies; the first rule of the Baseline tier that
matches decides, unless it passes; else the call is allowed. Both ends must permit: the source its
egress, the destination its ingress.

`Judge` prepares documents and world once and answers many questions; its answers depend on
nothing but its arguments, and not on the order of documents, nor on that of rules in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netwatch.model.workload import Workload
from netwatch.policy.clauses import Face, Side, decides, first, in_order, ranked
from netwatch.policy.ir import (
    LINK_ENCRYPTED,
    Action,
    Decision,
    Mode,
    Party,
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
from netwatch.policy.match import covers, is_host, linked
from netwatch.policy.peers import Peers

ENFORCED = frozenset({Mode.ENFORCE})
STAGED = frozenset({Mode.ENFORCE, Mode.STAGE})
MAX_REMEMBERED = 200_000
"""Parties kept ready; beyond it they are computed anew, as are the pairs below."""


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
class _Group:
    """What the same set of governing documents means, for each direction."""

    isolation: Isolation
    ingress: Side
    egress: Side


@dataclass(frozen=True, slots=True)
class _Standing:
    """A party as the rules see it. `group` None: it is no workload and judges nothing."""

    party: Party
    title: str
    host: bool
    face: Face
    group: _Group | None


class Judge:
    """Answers questions about one set of documents and one world."""

    def __init__(
        self, policies: Iterable[Policy], world: World, modes: frozenset[Mode] = ENFORCED
    ) -> None:
        self.world = world
        self.policies = tuple(sorted((p for p in policies if p.mode in modes), key=_order))
        self._demands_link = any(
            rule.obligation == LINK_ENCRYPTED
            for policy in self.policies
            for rule in (*policy.ingress, *policy.egress)
        )
        self._protected = frozenset(
            pair for one, other in world.protected for pair in ((one, other), (other, one))
        )
        self._peers = Peers(world)
        self._by_namespace: dict[str | None, list[int]] = {}
        for number, policy in enumerate(self.policies):
            self._by_namespace.setdefault(policy.namespace, []).append(number)
        self._covering: dict[str, list[int]] = {}
        self._clauses = ranked(self.policies)
        self._clause_peers = {
            clause.rank: frozenset(
                self._peers.number(clause.policy.namespace, peer) for peer in clause.rule.peers
            )
            for clauses in self._clauses
            for clause in (*clauses.ingress, *clauses.egress)
        }
        self._faces: dict[frozenset[int], Face] = {}
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

    def linked(self, one: Party, other: Party) -> bool:
        """Whether a rule that demands `link-encrypted` may speak about these two."""
        return linked(self._protected, one, other)

    def alike(self, subject: Party, other: Party) -> tuple[int, int, bool, bool]:
        """Equal for two pairs that this judge can not tell apart, but by ports with names."""
        one, two = self._standing(subject), self._standing(other)
        linked = self._demands_link and self.linked(subject, other)
        return id(one.group), id(two.face), two.host, linked

    def isolation(self, workload: Workload) -> Isolation:
        """Who isolates this workload."""
        group = self._standing(Party(workload)).group
        return group.isolation if group else Isolation()

    def clauses(self, direction: Direction, workload: Workload) -> tuple[Clause, ...]:
        """Every rule of one direction of this workload, in the order of judgement."""
        chosen = self._governing(workload) if not workload.host_network else ()
        found = [
            clause
            for number in chosen
            for clause in (
                self._clauses[number].ingress
                if direction is Direction.INGRESS
                else self._clauses[number].egress
            )
        ]
        met = in_order(found)
        return (*met.admin, *met.exceptions, *met.denies, *met.allows, *met.baseline)

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
        if met.admin and (found := decides(met.admin, protocol, port, target, now)):
            return Judgement(found.rule.action is Action.ALLOW, found, isolating)
        linked = self._demands_link and self.linked(subject.party, other.party)
        if met.exceptions and (
            found := first(met.exceptions, protocol, port, target, now, linked=linked)
        ):
            return Judgement(True, found, isolating)
        if met.denies and (found := first(met.denies, protocol, port, target, now)):
            return Judgement(False, found, isolating)
        if met.allows and (found := first(met.allows, protocol, port, target, now, linked=linked)):
            return Judgement(True, found, isolating)
        if isolating:
            implicit = other.host and direction is Direction.INGRESS and _only_upstream(isolating)
            return Judgement(implicit, None, isolating)
        if met.baseline and (found := decides(met.baseline, protocol, port, target, now)):
            return Judgement(found.rule.action is Action.ALLOW, found, isolating)
        return _OPEN

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
        face = self._faces.setdefault(peers, Face(len(self._faces), peers))
        group = self._group(party.workload) if party.workload and not host else None
        return _Standing(party, title(party), host, face, group)

    def _group(self, workload: Workload) -> _Group:
        chosen = self._governing(workload)
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

    def _governing(self, workload: Workload) -> tuple[int, ...]:
        labels = workload.label_values()
        near = self._near(workload.namespace)
        return tuple(i for i in near if self.policies[i].subject.matches(labels))

    def _near(self, namespace: str) -> list[int]:
        """The documents about this namespace, remembered."""
        known = self._covering.get(namespace)
        if known is None:
            known = sorted(
                number
                for number in (
                    *self._by_namespace.get(namespace, ()),
                    *self._by_namespace.get(None, ()),
                )
                if covers(self.policies[number], namespace, self.world)
            )
            self._covering[namespace] = known
        return known

    def _side(self, clauses: Iterable[Clause]) -> Side:
        return Side((clause, self._clause_peers[clause.rank]) for clause in clauses)


_OPEN = Judgement(True, None, ())


def _order(policy: Policy) -> tuple[str, str, str, str, int, int]:
    place = policy.place
    return policy.kind, policy.namespace or "", policy.name, place.file, place.line, place.column


def _only_upstream(isolating: tuple[Policy, ...]) -> bool:
    """Whether no Segment isolates: then the host is let in, as upstream lets the node in."""
    return all(policy.kind == "NetworkPolicy" for policy in isolating)


def _same(source: Party, destination: Party) -> bool:
    one, other = source.workload, destination.workload
    if one is None or other is None:
        return False
    return one is other or (one.name == other.name and one.identity == other.identity)

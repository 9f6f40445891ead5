"""One direction at a time: which ports one end lets in, or out, towards a peer.

Both ends must permit, so a pair is the intersection of two sides. A side is asked of the policies'
own Judge, once for all ports that the same rules name: the meaning of policies stays in one place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netwatch.enforce.ends import networks_named
from netwatch.enforce.regions import (
    OTHER,
    PORTED,
    Region,
    Span,
    address,
    both,
    full,
    joined,
    networks_of,
    pieces,
    ranges,
)
from netwatch.model.workload import Workload
from netwatch.policy.evaluate import Judge
from netwatch.policy.ir import (
    InternetPeer,
    Mode,
    Party,
    Policy,
    PortSpec,
    Rule,
    World,
)
from netwatch.policy.judgement import Direction
from netwatch.policy.match import governs, port_matches, port_numbers
from netwatch.policy.networks import internet


def protocols_of(policies: Iterable[Policy], family: int) -> frozenset[str]:
    """The protocols that must be asked one by one: those with ports, ICMP, and those named."""
    icmp = "icmp" if family == 4 else "icmpv6"
    named = {
        port.protocol
        for policy in policies
        for rule in (*policy.ingress, *policy.egress)
        for port in rule.ports
        if port.protocol is not None
    }
    return frozenset({*PORTED, icmp, OTHER} | (named - {"icmp", "icmpv6"}))


class Sides:
    """Answers of one Judge, remembered by what policies can tell apart."""

    def __init__(
        self, policies: Iterable[Policy], world: World, *, now: int, modes: frozenset[Mode]
    ) -> None:
        self.world = world
        self.judge = Judge(policies, world, modes)
        self.policies = self.judge.policies
        self.now = now
        self._protocols = {family: protocols_of(self.policies, family) for family in (4, 6)}
        self._full = {family: full(self._protocols[family]) for family in (4, 6)}
        self._internet = tuple(
            text for peer in internet(world) for text in (peer.cidr, *peer.excepts)
        )
        self._spoken: dict[tuple[Direction, tuple[int, ...]], _Words] = {}
        self._words: dict[tuple[Direction, str], _Words | None] = {}
        self._governing: dict[object, tuple[int, ...]] = {}
        self._parts: dict[object, _Parts] = {}
        self._answers: dict[object, Region] = {}
        self._pairs: dict[tuple[Region, Region], Region] = {}
        self._outer: dict[object, list[tuple[tuple[int, int], Party]]] = {}
        self._networks: dict[object, tuple[str, ...]] = {}

    def everything(self, family: int) -> Region:
        """The region of an end that nothing isolates."""
        return self._full[family]

    def words(self, direction: Direction, workload: Workload) -> _Words | None:
        """What is said about this direction of the workload; None if nothing is."""
        key = (direction, workload.identity)
        if key not in self._words:
            chosen = tuple(
                number
                for number in self.governing(workload)
                if _rules(self.policies[number], direction) is not None
            )
            spoken = (direction, chosen)
            if chosen and spoken not in self._spoken:
                documents = [self.policies[number] for number in chosen]
                self._spoken[spoken] = _Words.of(documents, direction, self.world)
            self._words[key] = self._spoken[spoken] if chosen else None
        return self._words[key]

    def governing(self, workload: Workload) -> tuple[int, ...]:
        """The numbers of the documents that govern it."""
        key = (workload.namespace, workload.labels, workload.host_network)
        found = self._governing.get(key)
        if found is None:
            found = self._governing[key] = tuple(
                number
                for number, policy in enumerate(self.policies)
                if governs(policy, workload, self.judge.world)
            )
        return found

    def other_workloads(self) -> None:
        """From here on the same names may be other workloads."""
        self._words.clear()

    def side(self, direction: Direction, own: Party, peer: Party, family: int) -> Region:
        """The ports that `own` lets in from, or out to, `peer`; not asked about itself."""
        words = self.words(direction, own.workload) if own.workload else None
        if words is None:
            return self._full[family]
        target = own.workload if direction is Direction.INGRESS else peer.workload
        named = tuple(port_numbers(port, target) for port in words.named)
        key = (direction, family, named, self.judge.alike(own, peer))
        region = self._answers.get(key)
        if region is None:
            parts = self._parts_of(words, target, named, family)
            said = tuple(
                self.judge.side(direction, own, peer, protocol, port, now=self.now).permits
                for protocol, port in parts.asked
            )
            if said not in parts.regions:
                parts.regions[said] = parts.region(said)
            region = self._answers[key] = parts.regions[said]
        return region

    def _parts_of(
        self, words: _Words, target: Workload | None, named: object, family: int
    ) -> _Parts:
        """All ports of all protocols, in parts that no rule tells apart at this destination."""
        key = (id(words), named, family)
        known = self._parts.get(key)
        if known is None:
            parts: dict[tuple[bool, ...], list[Span]] = {}
            for piece in pieces(self._protocols[family], _borders(words.ports, target)):
                number = piece.first if piece.protocol in PORTED else None
                told = tuple(
                    port_matches(port, piece.protocol, number, destination=target)
                    for port in words.ports
                )
                parts.setdefault(told, []).append(piece)
            known = self._parts[key] = _Parts.of(parts.values())
        return known

    def outside(
        self, direction: Direction, own: Party, family: int
    ) -> list[tuple[Region, tuple[str, ...]]]:
        """For peers that are no workload: each region with the networks that it holds for."""
        assert own.workload is not None
        words = self.words(direction, own.workload)
        if words is None:
            return [(self._full[family], networks_of(ranges((), family), family))]
        key = (id(words), family)
        if key not in self._outer:
            named = (*words.networks, *(self._internet if words.internet else ()))
            self._outer[key] = [
                (piece, Party(address=address(piece[0], family)))
                for piece in ranges(named, family)
            ]
        by_region: dict[Region, list[tuple[int, int]]] = {}
        for piece, peer in self._outer[key]:
            region = self.side(direction, own, peer, family)
            by_region.setdefault(region, []).append(piece)
        return [(region, self._covering(found, family)) for region, found in by_region.items()]

    def _covering(self, found: list[tuple[int, int]], family: int) -> tuple[str, ...]:
        key = (tuple(found), family)
        if key not in self._networks:
            self._networks[key] = networks_of(found, family)
        return self._networks[key]

    def pair(self, source: Party, destination: Party, family: int) -> Region:
        """The ports that both ends permit."""
        inward = self.side(Direction.INGRESS, destination, source, family)
        if not inward:
            return inward
        outward = self.side(Direction.EGRESS, source, destination, family)
        key = (inward, outward)
        if key not in self._pairs:
            self._pairs[key] = both(inward, outward)
        return self._pairs[key]


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts of all ports, each with one question that answers for all of it."""

    spans: tuple[Region, ...]
    asked: tuple[tuple[str, int | None], ...]
    regions: dict[tuple[bool, ...], Region]

    @classmethod
    def of(cls, parts: Iterable[Iterable[Span]]) -> _Parts:
        spans = tuple(map(tuple, parts))
        asked = tuple(
            (part[0].protocol, part[0].first if part[0].protocol in PORTED else None)
            for part in spans
        )
        return cls(spans, asked, {})

    def region(self, said: Iterable[bool]) -> Region:
        """What these answers permit."""
        chosen = zip(self.spans, said, strict=True)
        return joined(span for part, permitted in chosen if permitted for span in part)


@dataclass(frozen=True, slots=True)
class _Words:
    """What the rules of one direction name, and so where an answer may change."""

    ports: tuple[PortSpec, ...]
    named: tuple[PortSpec, ...]
    networks: tuple[str, ...]
    internet: bool

    @classmethod
    def of(cls, policies: Iterable[Policy], direction: Direction, world: World) -> _Words:
        rules = [rule for policy in policies for rule in _rules(policy, direction) or ()]
        ports = dict.fromkeys(port for rule in rules for port in rule.ports)
        internet = any(isinstance(p, InternetPeer) for rule in rules for p in rule.peers)
        named = tuple(port for port in ports if port.name is not None)
        return cls(tuple(ports), named, networks_named(rules, world), internet)


def _rules(policy: Policy, direction: Direction) -> tuple[Rule, ...] | None:
    """The document's rules of a direction; None if it is silent about it."""
    if direction is Direction.INGRESS:
        return policy.ingress if policy.isolates_ingress or policy.ingress else None
    return policy.egress if policy.isolates_egress or policy.egress else None


def _borders(ports: Iterable[PortSpec], destination: Workload | None) -> set[int]:
    """The ports at which an answer may change: first and one past last of every range."""
    borders: set[int] = set()
    for port in ports:
        if port.first is not None:
            borders |= {port.first, (port.last or port.first) + 1}
        for _, first, last in port_numbers(port, destination):
            borders |= {first, last + 1}
    return borders

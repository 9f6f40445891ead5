"""One direction at a time: which ports one end lets in, or out, towards a peer.

Both ends must permit, so a pair is the intersection of two sides. A side is asked of the policies'
own Judge, once for each piece on which the answer can not change: the meaning of policies stays
in one place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netwatch.enforce.ends import networks_named
from netwatch.enforce.regions import (
    OTHER,
    PORTED,
    Region,
    address,
    both,
    full,
    networks_of,
    ranges,
    where,
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
from netwatch.policy.match import governs, port_numbers
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

    def everything(self, family: int) -> Region:
        """The region of an end that nothing isolates."""
        return self._full[family]

    def words(self, direction: Direction, workload: Workload) -> _Words | None:
        """What is said about this direction of the workload; None if nothing is."""
        key = (direction, workload.identity)
        if key not in self._words:
            chosen = tuple(
                number
                for number, policy in enumerate(self.policies)
                if governs(policy, workload, self.judge.world)
                and _rules(policy, direction) is not None
            )
            spoken = (direction, chosen)
            if chosen and spoken not in self._spoken:
                documents = [self.policies[number] for number in chosen]
                self._spoken[spoken] = _Words.of(documents, direction, self.world)
            self._words[key] = self._spoken[spoken] if chosen else None
        return self._words[key]

    def side(self, direction: Direction, own: Party, peer: Party, family: int) -> Region:
        """The ports that `own` lets in from, or out to, `peer`; not asked about itself."""
        words = self.words(direction, own.workload) if own.workload else None
        if words is None:
            return self._full[family]
        target = own.workload if direction is Direction.INGRESS else peer.workload

        def allows(protocol: str, port: int) -> bool:
            number = port if protocol in PORTED else None
            judged = self.judge.side(direction, own, peer, protocol, number, now=self.now)
            return judged.permits

        borders = _borders(words.ports, target)
        return where(allows, self._protocols[family], borders)

    def outside(
        self, direction: Direction, own: Party, family: int
    ) -> list[tuple[Region, tuple[str, ...]]]:
        """For peers that are no workload: each region with the networks that it holds for."""
        assert own.workload is not None
        words = self.words(direction, own.workload)
        if words is None:
            return [(self._full[family], networks_of(ranges((), family), family))]
        named = (*words.networks, *(self._internet if words.internet else ()))
        by_region: dict[Region, list[tuple[int, int]]] = {}
        for first, last in ranges(named, family):
            peer = Party(address=address(first, family))
            region = self.side(direction, own, peer, family)
            by_region.setdefault(region, []).append((first, last))
        return [(region, networks_of(pieces, family)) for region, pieces in by_region.items()]

    def pair(self, source: Party, destination: Party, family: int) -> Region:
        """The ports that both ends permit."""
        inward = self.side(Direction.INGRESS, destination, source, family)
        if not inward:
            return inward
        return both(inward, self.side(Direction.EGRESS, source, destination, family))


@dataclass(frozen=True, slots=True)
class _Words:
    """What the rules of one direction name, and so where an answer may change."""

    ports: tuple[PortSpec, ...]
    networks: tuple[str, ...]
    internet: bool

    @classmethod
    def of(cls, policies: Iterable[Policy], direction: Direction, world: World) -> _Words:
        rules = [rule for policy in policies for rule in _rules(policy, direction) or ()]
        ports = dict.fromkeys(port for rule in rules for port in rule.ports)
        internet = any(isinstance(p, InternetPeer) for rule in rules for p in rule.peers)
        return cls(tuple(ports), networks_named(rules, world), internet)


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

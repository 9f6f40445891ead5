"""What the kernel would do with the first packet of a call, walked through the rules as values.

Used to tell which live sessions a change forbids, and by tests to hold the compiled rules against
`decide` without a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from netwatch.enforce.regions import PORTED, family_of
from netwatch.enforce.ruleset import (
    DestinationPorts,
    Drop,
    Entered,
    InSet,
    Jump,
    Match,
    MemberSet,
    Protocol,
    Reject,
    Return,
    Rule,
    Ruleset,
    Sampled,
    State,
    Through,
)
from netwatch.policy.networks import span

PASS, DENY = "pass", "deny"


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a call at one hook ("NW-FWD", "NW-IN" or "NW-OUT")."""

    hook: str
    source: str
    destination: str
    protocol: str
    port: int | None = None
    interface: str | None = None


class Walker:
    """Walks packets through one ruleset."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._chains = {
            (family, chain.name): chain.rules
            for family, chains in ruleset.chains
            for chain in chains
        }
        self._sets = {each.title: each for each in ruleset.sets}

    def verdict(self, packet: Packet) -> str:
        """`pass` (to the rules of others) or `deny`."""
        return self._walk(packet, family_of(packet.source), packet.hook) or PASS

    def _walk(self, packet: Packet, family: int, chain: str) -> str | None:
        """The verdict of a chain; None if it ends without one."""
        for rule in self._chains[family, chain]:
            if not all(self._holds(match, packet, family) for match in rule.matches):
                continue
            verdict = self._follow(rule, packet, family)
            if verdict is not None:
                return verdict
        return None

    def _follow(self, rule: Rule, packet: Packet, family: int) -> str | None:
        target = rule.target
        if isinstance(target, Jump):
            found = self._walk(packet, family, target.chain)
            if target.back:  # RETURN in a chain that was jumped to only ends that chain
                return None if found == PASS else found
            return found or PASS
        if isinstance(target, Return):
            return PASS
        return DENY if isinstance(target, Drop | Reject) else None

    def _holds(self, match: Match, packet: Packet, family: int) -> bool:
        match match:
            case State(name):
                return name == "NEW"
            case Protocol(name):
                return name == packet.protocol
            case DestinationPorts(first, last):
                return packet.port is not None and first <= packet.port <= last
            case Through(_, interface) | Entered(interface):
                return interface == packet.interface
            case InSet(name, directions, negated):
                return negated is not self._member(
                    self._sets[f"{name}{family}"], directions, packet
                )
            case Sampled():
                return True
        return False  # a first packet is a SYN, and no control message

    def _member(self, each: MemberSet, directions: str, packet: Packet) -> bool:
        values = []
        for kind, way in zip(each.kind[5:].split(","), directions.split(","), strict=True):
            address = packet.source if way == "src" else packet.destination
            if kind == "port":
                if packet.protocol not in PORTED:
                    return False
                values.append(f"{packet.protocol}:{packet.port}")
            else:
                values.append(packet.interface or "" if kind == "iface" else address)
        if "net" not in each.kind:
            return ",".join(values) in each.members
        return any(_covers(member.split(","), values) for member in each.members)


def _covers(member: list[str], values: list[str]) -> bool:
    return all(
        _within(value, part) if "/" in part else part == value
        for part, value in zip(member, values, strict=True)
    )


def _within(address: str, network: str) -> bool:
    family, number, _ = span(address)
    kind, first, last = span(network)
    return family == kind and first <= number <= last

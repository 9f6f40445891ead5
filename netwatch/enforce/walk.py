"""What the kernel would do with the first packet of a call, walked through the rules as values.

Used to tell which live sessions a change forbids, and by tests to hold the compiled rules against
`decide` without a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

from netwatch.enforce.regions import family_of
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
    Ruleset,
    Sampled,
    State,
    Target,
    Through,
)
from netwatch.policy.networks import span

PASS, DENY = "pass", "deny"
Span = tuple[int, int, int]
"""IP version, first and last address."""


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a call at one hook ("NW-FWD", "NW-IN" or "NW-OUT")."""

    hook: str
    source: str
    destination: str
    protocol: str
    port: int | None = None
    interface: str | None = None


Test = Callable[[Packet], bool]


class Walker:
    """Walks packets through one ruleset, whose matches it turns into questions once."""

    def __init__(self, ruleset: Ruleset) -> None:
        sets = {each.title: each for each in ruleset.sets}
        self._chains = {
            (family, chain.name): tuple(
                (tuple(_test(match, sets, family) for match in rule.matches), rule.target)
                for rule in chain.rules
            )
            for family, chains in ruleset.chains
            for chain in chains
        }

    def verdict(self, packet: Packet) -> str:
        """`pass` (to the rules of others) or `deny`."""
        return self._walk(packet, family_of(packet.source), packet.hook) or PASS

    def _walk(self, packet: Packet, family: int, chain: str) -> str | None:
        """The verdict of a chain; None if it ends without one."""
        for tests, target in self._chains[family, chain]:
            for holds in tests:
                if not holds(packet):
                    break
            else:
                verdict = self._follow(target, packet, family)
                if verdict is not None:
                    return verdict
        return None

    def _follow(self, target: Target, packet: Packet, family: int) -> str | None:
        if isinstance(target, Jump):
            found = self._walk(packet, family, target.chain)
            if target.back:  # RETURN in a chain that was jumped to only ends that chain
                return None if found == PASS else found
            return found or PASS
        if isinstance(target, Return):
            return PASS
        return DENY if isinstance(target, Drop | Reject) else None


def _test(match: Match, sets: Mapping[str, MemberSet], family: int) -> Test:
    match match:
        case State(name):
            return lambda _: name == "NEW"
        case Protocol(name):
            return lambda packet: packet.protocol == name
        case DestinationPorts(first, last):
            return lambda packet: packet.port is not None and first <= packet.port <= last
        case Through(_, interface) | Entered(interface):
            return lambda packet: packet.interface == interface
        case InSet(name, directions, negated):
            is_member = _membership(sets[f"{name}{family}"], directions)
            return (lambda packet: not is_member(packet)) if negated else is_member
        case Sampled():
            return lambda _: True
    return lambda _: False  # a first packet is a SYN, and no control message


def _membership(each: MemberSet, directions: str) -> Test:
    kinds = each.kind.removeprefix("hash:").split(",")
    fields = [_FIELDS[pair] for pair in zip(kinds, directions.split(","), strict=True)]
    networks = [
        [span(part) if "/" in part else part for part in member.split(",")]
        for member in each.members
        if "/" in member
    ]

    @lru_cache(maxsize=1024)  # packets by the thousand have few ends
    def is_covered(*values: str) -> bool:
        return any(_covers(network, values) for network in networks)

    def is_member(packet: Packet) -> bool:
        values = [field(packet) for field in fields]
        return ",".join(values) in each.members or (bool(networks) and is_covered(*values))

    return is_member


def _port(packet: Packet) -> str:
    return f"{packet.protocol}:{packet.port}"


def _interface(packet: Packet) -> str:
    return packet.interface or ""


_FIELDS: dict[tuple[str, str], Callable[[Packet], str]] = {
    ("ip", "src"): attrgetter("source"),
    ("ip", "dst"): attrgetter("destination"),
    ("net", "src"): attrgetter("source"),
    ("net", "dst"): attrgetter("destination"),
    ("port", "dst"): _port,
    ("iface", "src"): _interface,
}


def _covers(member: Iterable[str | Span], values: Iterable[str]) -> bool:
    return all(
        part == value if isinstance(part, str) else _within(value, part)
        for part, value in zip(member, values, strict=True)
    )


def _within(address: str, network: Span) -> bool:
    family, number, _ = span(address)
    kind, first, last = network
    return family == kind and first <= number <= last

"""Sets and rules of one family, as they are laid out: exact members where ports are few, rules
from set to set where not.

A hash:ip,port,ip member has exactly one port, so what is wide (every port, a long range, a
protocol without ports) becomes a rule source-set x destination-set. Such sets are named after who
is in them by policy, never by address: while the policies stay, only membership changes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from netwatch.enforce.ends import Group
from netwatch.enforce.regions import PORTED, Region, Span
from netwatch.enforce.ruleset import (
    DestinationPorts,
    Jump,
    Match,
    MemberSet,
    Protocol,
    Return,
    Rule,
)
from netwatch.enforce.told import Told, told
from netwatch.model.errors import NetwatchError

PLACES = {"exact": ("e", "allow"), "barred": ("d", "bar"), "wide": ("b", "block")}
"""In the order in which they are asked: the letter of their sets, and the phase of these (`plan`).
exact: permitted, with nothing left out. barred: left out. wide: permitted, less what is barred."""
_Key = TypeVar("_Key", bound=object)


class CapReached(NetwatchError):
    """The policies need more than a host's rules may hold; nothing is applied then."""

    code = "cap-reached"


class Products:
    """Members for each pair of two lists and each port, remembered from one time to the next."""

    def __init__(self) -> None:
        self._last: dict[object, _Product] = {}
        self._now: dict[object, _Product] = {}

    def __call__(
        self,
        key: object,
        ones: tuple[str, ...],
        span: Span,
        others: tuple[str, ...],
        meets: Callable[[str, str], bool],
    ) -> frozenset[str]:
        """`one,protocol:port,other` wherever the two meet; `key` names lists, span and `meets`."""
        known = self._last.get(key)
        if known is None:
            members = frozenset(_members(ones, span, others, meets))
        elif known.ones == ones and known.others == others:
            members = known.members
        else:
            kept, came, left = _change(known.ones, ones)
            _, more, less = _change(known.others, others)
            members = known.members.difference(
                _members(left, span, known.others, meets), _members(kept, span, less, meets)
            ).union(_members(came, span, others, meets), _members(kept, span, more, meets))
        self._now[key] = _Product(ones, others, members)
        return members

    def turn(self) -> None:
        """Forget those that were not asked for since the turn before."""
        self._last, self._now = self._now, {}


class _Product(NamedTuple):
    ones: tuple[str, ...]
    others: tuple[str, ...]
    members: frozenset[str]


def _change(before: Iterable[str], now: Iterable[str]) -> tuple[set[str], set[str], set[str]]:
    """Who stayed, who came, who left."""
    old, new = set(before), set(now)
    return old & new, new - old, old - new


def _members(
    ones: Iterable[str],
    span: Span,
    others: Collection[str],
    meets: Callable[[str, str], bool],
) -> list[str]:
    ports = [f"{span.protocol}:{port}" for port in range(span.first, span.last + 1)]
    return [
        f"{one},{port},{other}"
        for one in ones
        for other in others
        if meets(one, other)
        for port in ports
    ]


@dataclass(slots=True)
class Layout:
    """Members by set name, and rules by whom they are about and the place where they stand."""

    prefix: str
    family: int
    everything: Region
    tell: Callable[[Region, Region], Told]
    products: Products
    members: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    blocks: dict[tuple[str, str], list[Rule]] = field(default_factory=lambda: defaultdict(list))
    """By ("pairs", "in" or "out") and a word of PLACES."""
    sets: dict[str, MemberSet] = field(default_factory=dict)
    load: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Members that one more address adds, by name of its group."""

    @property
    def deny(self) -> Jump:
        """Where a packet goes that is denied."""
        return Jump(f"{self.prefix.upper()}DENY", back=False)

    def addresses(self, groups: Iterable[Group], place: str) -> str:
        """The set of these groups' addresses for rules of one place; returns its name."""
        chosen = sorted(groups, key=lambda group: group.name)
        told = ",".join(group.name for group in chosen)
        members = frozenset(a for group in chosen for a in group.addresses)
        letter, phase = PLACES[place]
        return self._named(letter, told, MemberSet("", self.family, "hash:ip", phase, members))

    def networks(self, networks: tuple[str, ...]) -> str:
        """The set of these networks; returns its name."""
        chosen = MemberSet("", self.family, "hash:net", "allow", frozenset(networks))
        return self._named("n", ",".join(networks), chosen)

    def ports(self, way: str, networks: tuple[str, ...], members: Iterable[str]) -> str:
        """The set of own (address, port)s that are kept from these networks; returns its name."""
        chosen = MemberSet("", self.family, "hash:ip,port", "bar", frozenset(members))
        return self._named("d", ",".join((way, *networks)), chosen)

    def _named(self, letter: str, told: str, chosen: MemberSet) -> str:
        name = f"{self.prefix}{letter}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        self.sets[name] = MemberSet(name, self.family, chosen.kind, chosen.phase, chosen.members)
        return name

    def block(self, about: str, place: str, matches: Iterable[Match]) -> None:
        """One more rule from set to set."""
        target = self.deny if place == "barred" else Return()
        self.blocks[about, place].append(Rule(target, tuple(matches)))

    def ruled(self) -> tuple[object, ...]:
        """All that rules depend on: what is laid out as rules, and which sets hold anybody."""
        blocks = {place: rules for place, rules in self.blocks.items() if rules}
        return blocks, {name for name, members in self.members.items() if members}

    def rules(self) -> int:
        """How many rules depend on policies."""
        return sum(map(len, self.blocks.values()))

    def width(self, span: Span | None) -> list[Match]:
        """The matches of a span of a rule; none for everything."""
        if span is None:
            return []
        if span.protocol in PORTED and (span.first, span.last) != (0, 65535):
            return [Protocol(span.protocol), DestinationPorts(span.first, span.last)]
        return [Protocol(span.protocol)]


def teller(everything: Region) -> Callable[[Region, Region], Told]:
    """Tells regions beside a base, each pair of them once."""
    known: dict[tuple[Region, Region], Told] = {}

    def tell(region: Region, base: Region) -> Told:
        found = known.get((region, base))
        if found is None:
            found = known[region, base] = told(region, base=base, whole=everything)
        return found

    return tell


def in_order(found: Iterable[_Key]) -> list[_Key]:
    """Spans, or spans with networks, in an order that does not change; everything is first."""
    return sorted(found, key=lambda key: ("Span" in repr(key), repr(key)))

"""Pairs of ends as members and rules: what they may, and what they may not.

A port that an end keeps from nearly everybody is one member without a peer; those who may all the
same are edges, which are asked before. So a document that denies ten ports to everybody costs ten
members for each end, and no rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netwatch.enforce.ends import Group, apart, together
from netwatch.enforce.layout import Layout, in_order
from netwatch.enforce.reach import Cell, Reach
from netwatch.enforce.regions import Span
from netwatch.enforce.ruleset import InSet, Match
from netwatch.enforce.told import MAX_EVENT, Spot, Told, spans, spots

Pairs = set[tuple[Group, Group]]
_NONE: frozenset[Spot] = frozenset()


@dataclass(frozen=True, slots=True)
class _Members:
    """Ports of one pair that become members of the set `name`, unless they are too many."""

    name: str
    source: Group
    destination: Group
    span: Span

    @property
    def ports(self) -> int:
        return self.span.last - self.span.first + 1


def lay_pairs(layout: Layout, reach: Reach) -> None:
    """Members, except where one container's start would add more than it may."""
    cells = [(cell, layout.tell(cell.region, cell.base)) for cell in reach.cells]
    shut = _Shut.of(reach, cells)
    blocks: dict[str, dict[Span | None, Pairs]] = {
        place: defaultdict(set) for place in ("exact", "barred", "wide")
    }
    for cell, said in cells:
        pair = cell.source, cell.destination
        for wide in said.wide:
            blocks["wide"][wide].add(pair)
        for long in said.long:
            blocks["barred"][long].add(pair)
    shut.lay(layout)
    for each in _light(layout, _members(cells, shut), blocks):
        one, other = each.source, each.destination
        layout.members[each.name] |= layout.products(
            (layout.prefix, each.name, one.name, other.name, each.span),
            one.addresses,
            each.span,
            other.addresses,
            together,
        )
    for place, found in blocks.items():
        for span in in_order(found):
            for sources, destinations in rectangles(found[span]):
                layout.block("pairs", place, _matches(layout, place, span, sources, destinations))


def _light(
    layout: Layout, members: Iterable[_Members], blocks: dict[str, dict[Span | None, Pairs]]
) -> Iterator[_Members]:
    """Those that may be members; the heaviest of an overloaded end become rules."""
    every = list(members)
    load = layout.load
    ends = {end.name: end for one in every for end in (one.source, one.destination)}
    width = {name: _width(end) for name, end in ends.items()}
    for each in every:
        load[each.source.name] += each.ports * width[each.destination.name]
        load[each.destination.name] += each.ports * width[each.source.name]
    for each in sorted(
        every,
        key=lambda one: -one.ports * max(width[one.source.name], width[one.destination.name]),
    ):
        one, other = each.source, each.destination
        if max(load[one.name], load[other.name]) > MAX_EVENT:
            blocks["exact" if each.name == "edge" else "barred"][each.span].add((one, other))
            load[one.name] -= each.ports * width[other.name]
            load[other.name] -= each.ports * width[one.name]
            continue
        yield each


def _width(group: Group) -> int:
    """How many members a new end adds for each port, at most: link-local ones meet their like."""
    linked = sum(apart(address, "") for address in group.addresses)
    return max(linked, len(group.addresses) - linked)


def _matches(
    layout: Layout,
    place: str,
    span: Span | None,
    sources: Iterable[Group],
    targets: Iterable[Group],
) -> list[Match]:
    ends = (
        InSet(layout.addresses(sources, place), "src"),
        InSet(layout.addresses(targets, place), "dst"),
    )
    return [*layout.width(span), *ends]


def _members(cells: Iterable[tuple[Cell, Told]], shut: _Shut) -> Iterator[_Members]:
    remembered: dict[object, tuple[Iterable[Span], Iterable[Span]]] = {}
    for cell, said in cells:
        covered = shut.over(cell)
        key = id(said), covered
        if key not in remembered:
            spared = frozenset(filter(said.holds, covered)) - spots(said.few)
            remembered[key] = (*said.few, *spans(spared)), spans(said.barred - covered)
        edges, bars = remembered[key]
        for name, chosen in (("edge", edges), ("bar", bars)):
            for span in chosen:
                yield _Members(name, cell.source, cell.destination, span)


class _Shut:
    """The ports that an end keeps from most others, by direction and name of the group."""

    def __init__(self, reach: Reach) -> None:
        self._inward: dict[str, frozenset[Spot]] = {}
        self._outward: dict[str, frozenset[Spot]] = {}
        self._reach = reach

    @classmethod
    def of(cls, reach: Reach, cells: list[tuple[Cell, Told]]) -> _Shut:
        """Chosen by which needs fewer members: one for all with those who may, or each pair."""
        self = cls(reach)
        here = {group.name for group in reach.closed_in}
        self._inward = _most(
            (c.destination, c.source, said, said.barred)
            for c, said in cells
            if c.destination.name in here
        )
        here = {group.name for group in reach.closed_out}
        self._outward = _most(
            (c.source, c.destination, said, said.barred - self.over(c))
            for c, said in cells
            if c.source.name in here
        )
        return self

    def over(self, cell: Cell) -> frozenset[Spot]:
        """The ports that this pair may not use but for an edge."""
        inward = self._inward.get(cell.destination.name, _NONE)
        outward = self._outward.get(cell.source.name, _NONE)
        return inward | outward if outward else inward

    def lay(self, layout: Layout) -> None:
        """As members, for each of the ends' addresses."""
        for name, groups, found in (
            ("bar-in", self._reach.closed_in, self._inward),
            ("bar-out", self._reach.closed_out, self._outward),
        ):
            for group in groups:
                chosen = found.get(group.name, _NONE)
                layout.load[group.name] += len(chosen)
                layout.members[name] |= {
                    f"{address},{protocol}:{port}"
                    for protocol, port in chosen
                    for address in group.addresses
                }


def _most(
    denials: Iterable[tuple[Group, Group, Told, frozenset[Spot]]],
) -> dict[str, frozenset[Spot]]:
    """For each end the ports that fewer others may use than may not."""
    weights: dict[str, dict[tuple[int, frozenset[Spot]], int]] = {}
    known: dict[int, Told] = {}
    for end, peer, said, barred in denials:
        counted = weights.setdefault(end.name, defaultdict(int))
        counted[id(said), barred] += len(peer.addresses)
        known[id(said)] = said
    found: dict[str, frozenset[Spot]] = {}
    for name, counted in weights.items():
        balance: dict[Spot, int] = defaultdict(int)
        for (_, barred), weight in counted.items():
            for spot in barred:
                balance[spot] += weight
        for (number, _), weight in counted.items():
            for spot in balance:
                if known[number].holds(spot):
                    balance[spot] -= weight
        found[name] = frozenset(spot for spot, more in balance.items() if more > 0)
    return found


def rectangles(
    pairs: Iterable[tuple[Group, Group]],
) -> list[tuple[tuple[Group, ...], tuple[Group, ...]]]:
    """The relation as products of sets: equal rows, or equal columns, whichever are fewer."""
    chosen = list(pairs)
    rows = _rows(chosen)
    columns = [(b, a) for a, b in _rows([(b, a) for a, b in chosen])]
    return rows if len(rows) <= len(columns) else columns


def _rows(
    pairs: list[tuple[Group, Group]],
) -> list[tuple[tuple[Group, ...], tuple[Group, ...]]]:
    by_name = {group.name: group for pair in pairs for group in pair}
    row: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        row[one.name].add(other.name)
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in sorted(row):
        alike[tuple(sorted(row[name]))].append(name)
    return [
        (tuple(by_name[n] for n in names), tuple(by_name[n] for n in others))
        for others, names in sorted(alike.items())
    ]

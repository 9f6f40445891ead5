"""Networks beyond, as members and rules: (own address, port, network), and rules for what is wide.

As with pairs, a port that an end keeps from most networks is one member without a network. Ports
that many ends keep from the same long list of networks, as from the internet, share a rule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from netwatch.enforce.ends import Group, apart
from netwatch.enforce.layout import Layout, in_order
from netwatch.enforce.reach import Outward, Reach
from netwatch.enforce.regions import Span
from netwatch.enforce.ruleset import InSet
from netwatch.enforce.told import MAX_EVENT, Spot, Told, spans, spots
from netwatch.policy.judgement import Direction

LINK_LOCAL = ip_network("fe80::/10")
MAX_LISTS = 8  # lists of networks that have a rule of their own, for each direction
LONG = 4  # members that a port may cost an end before a list is worth a rule
_Blocks = dict[tuple[Span | None, tuple[str, ...]], list[Group]]
_Pieces = list[tuple[Outward, Told]]


@dataclass(frozen=True, slots=True)
class _Members:
    """Ports of a group with these networks that become members of the set `name`."""

    name: str
    group: Group
    span: Span
    networks: tuple[str, ...]

    @property
    def weight(self) -> int:
        return (self.span.last - self.span.first + 1) * len(self.networks)


def lay_beyond(layout: Layout, reach: Reach) -> None:
    """One direction after the other."""
    for direction, way in ((Direction.INGRESS, "in"), (Direction.EGRESS, "out")):
        by_group: dict[str, _Pieces] = defaultdict(list)
        for each in reach.outward:
            if each.direction is direction:
                by_group[each.group.name].append((each, layout.tell(each.region, each.base)))
        blocks: dict[str, _Blocks] = {
            place: defaultdict(list) for place in ("exact", "barred", "wide")
        }
        lists = _long_lists(by_group.values())
        on_lists: dict[tuple[str, ...], set[str]] = {networks: set() for networks in lists}
        for pieces in by_group.values():
            rest = _listed(layout, pieces, on_lists)
            _lay_group(layout, way, rest, blocks)
        _lay_lists(layout, way, on_lists)
        _lay_blocks(layout, way, blocks)


def _denied(pieces: _Pieces) -> dict[Spot, tuple[str, ...]]:
    """The networks that each port is kept from."""
    found: dict[Spot, list[str]] = defaultdict(list)
    for each, said in pieces:
        for spot in said.barred:
            found[spot] += each.networks
    return {spot: tuple(sorted(networks)) for spot, networks in found.items()}


def _long_lists(groups: Iterable[_Pieces]) -> list[tuple[str, ...]]:
    """The lists that save most members."""
    saved: Counter[tuple[str, ...]] = Counter()
    for pieces in groups:
        for spot, networks in _denied(pieces).items():
            spared = sum(len(each.networks) for each, said in pieces if said.holds(spot))
            if min(len(networks), spared + 1) > LONG:
                saved[networks] += len(pieces[0][0].group.addresses)
    return [networks for networks, _ in sorted(saved.items(), key=lambda i: (-i[1], i[0]))][
        :MAX_LISTS
    ]


def _listed(layout: Layout, pieces: _Pieces, on_lists: dict[tuple[str, ...], set[str]]) -> _Pieces:
    """The pieces without those ports that a list of networks answers for."""
    group = pieces[0][0].group
    taken = {s: networks for s, networks in _denied(pieces).items() if networks in on_lists}
    for (protocol, port), networks in taken.items():
        on_lists[networks] |= {f"{address},{protocol}:{port}" for address in group.addresses}
    layout.load[group.name] += len(taken)
    return [(each, said._replace(barred=said.barred - taken.keys())) for each, said in pieces]


def _lay_lists(layout: Layout, way: str, on_lists: dict[tuple[str, ...], set[str]]) -> None:
    own, beyond = ("dst,dst", "src") if way == "in" else ("src,dst", "dst")
    for networks, members in on_lists.items():
        kept = InSet(layout.ports(way, networks, members), own)
        layout.block(way, "barred", [kept, InSet(layout.networks(networks), beyond)])


def _lay_group(layout: Layout, way: str, pieces: _Pieces, blocks: dict[str, _Blocks]) -> None:
    group = pieces[0][0].group
    for each, said in pieces:
        for wide in said.wide:
            blocks["wide"][wide, each.networks].append(group)
        for long in said.long:
            blocks["barred"][long, each.networks].append(group)
    shut = _most(pieces)
    layout.load[group.name] += len(shut)
    layout.members[f"far-{way}"] |= {
        f"{address},{protocol}:{port}" for protocol, port in shut for address in group.addresses
    }
    members = sorted(_members(way, pieces, shut), key=lambda one: -one.weight)
    load = layout.load[group.name] + sum(each.weight for each in members)
    for chosen in members:
        if load > MAX_EVENT:
            place = "exact" if chosen.name.startswith("cidr") else "barred"
            blocks[place][chosen.span, chosen.networks].append(group)
            load -= chosen.weight
            continue
        layout.members[chosen.name] |= layout.products(
            (layout.prefix, chosen.name, group.name, chosen.networks, chosen.span),
            group.addresses,
            chosen.span,
            chosen.networks,
            _may_meet,
        )
    layout.load[group.name] = load


def _may_meet(address: str, network: str) -> bool:
    return not apart(address, "") or ip_network(network).overlaps(LINK_LOCAL)


def _most(pieces: _Pieces) -> frozenset[Spot]:
    """The ports that fewer networks may use than may not."""
    balance: dict[Spot, int] = defaultdict(int)
    for each, said in pieces:
        for spot in said.barred:
            balance[spot] += len(each.networks)
    for each, said in pieces:
        for spot in balance:
            if said.holds(spot):
                balance[spot] -= len(each.networks)
    return frozenset(spot for spot, more in balance.items() if more > 0)


def _members(way: str, pieces: _Pieces, shut: frozenset[Spot]) -> Iterator[_Members]:
    for each, said in pieces:
        spared = frozenset(filter(said.holds, shut)) - spots(said.few)
        for span in (*said.few, *spans(spared)):
            yield _Members(f"cidr-{way}", each.group, span, each.networks)
        for span in spans(said.barred - shut):
            yield _Members(f"cut-{way}", each.group, span, each.networks)


def _lay_blocks(layout: Layout, way: str, blocks: dict[str, _Blocks]) -> None:
    own, beyond = ("dst", "src") if way == "in" else ("src", "dst")
    for place, found in blocks.items():
        for span, networks in in_order(found):
            groups = found[span, networks]
            ends = (
                InSet(layout.addresses(groups, place), own),
                InSet(layout.networks(networks), beyond),
            )
            layout.block(way, place, [*layout.width(span), *ends])

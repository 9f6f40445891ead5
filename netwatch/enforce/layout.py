"""Reach as sets and blocks: exact members where ports are few, set-by-set rules where not.

A hash:ip,port,ip member has exactly one port, so what is wide (every port, a long range, a
protocol without ports) becomes a rule source-set x destination-set. Such sets are named after who
is in them by policy, never by address: while the policies stay, only membership changes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network

from netwatch.enforce.ends import Group, apart
from netwatch.enforce.reach import Reach, opens
from netwatch.enforce.regions import OTHER, PORTED, Region, Span
from netwatch.enforce.ruleset import (
    DestinationPorts,
    InSet,
    Match,
    MemberSet,
    Protocol,
    Return,
    Rule,
)
from netwatch.enforce.sides import Sides
from netwatch.model.errors import NetwatchError
from netwatch.policy.ir import Party
from netwatch.policy.judgement import Direction

MAX_BLOCKS = 64  # rules of set x set on a host: each costs every refused packet about 150 ns
MAX_WIDTH = 64  # ports of one range as members; above it the range becomes a block
MAX_EVENT = 2000  # members that one container's start may add
LINK_LOCAL = ip_network("fe80::/10")
MAX_MEMBERS = 1_000_000  # of one set: maxelem is 2^20


class CapReached(NetwatchError):
    """The policies need more than a host's rules may hold; nothing is applied then."""

    code = "cap-reached"


@dataclass(slots=True)
class Layout:
    """Members by set name, and block rules by the place where they stand."""

    prefix: str
    family: int
    everything: Region
    members: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    between: list[Rule] = field(default_factory=list)
    anyone: list[Rule] = field(default_factory=list)
    inward: list[Rule] = field(default_factory=list)
    outward: list[Rule] = field(default_factory=list)
    sets: dict[str, MemberSet] = field(default_factory=dict)
    inexpressible: int = 0

    def addresses(self, groups: Iterable[Group]) -> str:
        """The set of these groups' addresses; returns its name."""
        chosen = sorted(groups, key=lambda group: group.name)
        told = ",".join(group.name for group in chosen)
        members = frozenset(a for group in chosen for a in group.addresses)
        return self._named("b", told, "hash:ip", members)

    def networks(self, networks: tuple[str, ...]) -> str:
        """The set of these networks; returns its name."""
        return self._named("n", ",".join(networks), "hash:net", frozenset(networks))

    def _named(self, letter: str, told: str, kind: str, members: frozenset[str]) -> str:
        name = f"{self.prefix}{letter}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        self.sets[name] = MemberSet(name, self.family, kind, "allow", members)
        return name

    def rules(self) -> int:
        """How many rules depend on policies."""
        return sum(map(len, (self.between, self.anyone, self.inward, self.outward)))

    def width(self, span: Span | None) -> list[Match] | None:
        """The matches of a wide span; None for what no single rule can say."""
        if span is None:
            return []
        if span.protocol == OTHER:
            self.inexpressible += 1
            return None
        if span.protocol in PORTED and (span.first, span.last) != (0, 65535):
            return [Protocol(span.protocol), DestinationPorts(span.first, span.last)]
        return [Protocol(span.protocol)]

    def pieces(self, region: Region) -> tuple[list[Span], list[Span | None]]:
        """The region's narrow spans, and its wide ones; None stands for everything."""
        if region == self.everything:
            return [], [None]
        narrow = [span for span in region if _is_narrow(span)]
        return narrow, [span for span in region if not _is_narrow(span)]


def _is_narrow(span: Span) -> bool:
    return span.protocol in PORTED and span.last - span.first < MAX_WIDTH


def spots(span: Span) -> list[str]:
    """The ports of a narrow span as ipset spells them."""
    return [f"{span.protocol}:{port}" for port in range(span.first, span.last + 1)]


def layout_of(reach: Reach, sides: Sides, *, prefix: str) -> Layout:
    """Sets and blocks for one family; raises CapReached rather than truncate."""
    layout = Layout(prefix, reach.family, sides.everything(reach.family))
    _lay_cells(layout, reach)
    _lay_anyone(layout, reach)
    _lay_outward(layout, reach)
    _lay_doors(layout, reach, sides)
    _lay_far_doors(layout, reach, sides)
    for name, groups in (("iso-in", reach.closed_in), ("iso-out", reach.closed_out)):
        layout.members[name] |= {address for group in groups for address in group.addresses}
    for name, members in layout.members.items():
        if len(members) > MAX_MEMBERS:
            raise CapReached(
                f"the policies need {len(members)} members in {prefix}{name}, but a set holds at"
                f" most {MAX_MEMBERS}",
                "use fewer ports a rule, or rules without ports",
            )
    if layout.rules() > MAX_BLOCKS:
        raise CapReached(
            f"the policies need {layout.rules()} rules from set to set, but a host holds at most"
            f" {MAX_BLOCKS}; without ports or with long ranges are: {_wide_documents(sides)}",
            "let rules share selectors, or name ports",
        )
    return layout


def _wide_documents(sides: Sides) -> str:
    """The documents with rules that can not become members."""
    titles = [
        policy.title
        for policy in sides.policies
        for rule in (*policy.ingress, *policy.egress)
        if not rule.ports
        or any(p.first is None or (p.last or p.first) - p.first >= MAX_WIDTH for p in rule.ports)
    ]
    named = list(dict.fromkeys(titles))
    more = f" and {len(named) - 10} more" if len(named) > 10 else ""
    return ", ".join(named[:10]) + more


def _lay_cells(layout: Layout, reach: Reach) -> None:
    """Pairs: members, except where one container's start would add more than it may."""
    wide: dict[Span | None, set[tuple[Group, Group]]] = defaultdict(set)
    narrow: list[tuple[int, Group, Group, Span]] = []
    load: dict[str, int] = defaultdict(int)
    for cell in reach.cells:
        few, many = layout.pieces(cell.region)
        for each in many:
            wide[each].add((cell.source, cell.destination))
        for span in few:
            ports = span.last - span.first + 1
            narrow.append((ports, cell.source, cell.destination, span))
            load[cell.source.name] += ports * _width(cell.destination)
            load[cell.destination.name] += ports * _width(cell.source)
    heaviest = sorted(narrow, key=lambda one: -one[0] * max(_width(one[1]), _width(one[2])))
    for ports, source, destination, span in heaviest:
        if max(load[source.name], load[destination.name]) > MAX_EVENT:
            wide[span].add((source, destination))
            load[source.name] -= ports * _width(destination)
            load[destination.name] -= ports * _width(source)
            continue
        layout.members["edge"] |= {
            f"{one},{spot},{other}"
            for spot in spots(span)
            for one in source.addresses
            for other in destination.addresses
            if not apart(one, other)
        }
    for each in sorted(wide, key=lambda span: span or Span("", 0, 0)):
        matches = layout.width(each)
        if matches is not None:
            for sources, destinations in rectangles(wide[each]):
                layout.between.append(_between(layout, matches, sources, destinations))


def _width(group: Group) -> int:
    """How many members a new end adds for each port, at most: link-local ones meet their like."""
    linked = sum(apart(address, "") for address in group.addresses)
    return max(linked, len(group.addresses) - linked)


def _between(
    layout: Layout, matches: list[Match], sources: Iterable[Group], targets: Iterable[Group]
) -> Rule:
    ends = (
        InSet(layout.addresses(sources), "src"),
        InSet(layout.addresses(targets), "dst"),
    )
    return Rule(Return(), (*matches, *ends))


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


def _lay_anyone(layout: Layout, reach: Reach) -> None:
    """Ports that a destination opens to everybody: no source, but its egress must be open."""
    wide: dict[Span | None, list[Group]] = defaultdict(list)
    for group, region in reach.anyone:
        few, many = layout.pieces(region)
        layout.members["any"] |= {
            f"{address},{spot}"
            for span in few
            for spot in spots(span)
            for address in group.addresses
        }
        for each in many:
            wide[each].append(group)
    for each in sorted(wide, key=lambda span: span or Span("", 0, 0)):
        matches = layout.width(each)
        if matches is not None:
            free = InSet(f"{layout.prefix}iso-out", "src", negated=True)
            target = InSet(layout.addresses(wide[each]), "dst")
            layout.anyone.append(Rule(Return(), (*matches, free, target)))


def _lay_outward(layout: Layout, reach: Reach) -> None:
    """Networks beyond: (own address, port, network) members, and blocks for what is wide."""
    wide: dict[tuple[str, Span | None, tuple[str, ...]], list[Group]] = defaultdict(list)
    for each in reach.outward:
        few, many = layout.pieces(each.region)
        name = "cidr-in" if each.direction is Direction.INGRESS else "cidr-out"
        layout.members[name] |= {
            f"{address},{spot},{network}"
            for span in few
            for spot in spots(span)
            for address in each.group.addresses
            for network in each.networks
            if not apart(address, "") or _holds_link_local(network)
        }
        for span in many:
            wide[name, span, each.networks].append(each.group)
    for (name, wide_span, networks), groups in sorted(
        wide.items(), key=lambda item: (item[0][0], item[0][1] or Span("", 0, 0), item[0][2])
    ):
        matches = layout.width(wide_span)
        if matches is None:
            continue
        own, beyond = ("dst", "src") if name == "cidr-in" else ("src", "dst")
        ends = InSet(layout.addresses(groups), own), InSet(layout.networks(networks), beyond)
        rules = layout.inward if name == "cidr-in" else layout.outward
        rules.append(Rule(Return(), (*matches, *ends)))


def _holds_link_local(network: str) -> bool:
    return ip_network(network).overlaps(LINK_LOCAL)


def _lay_doors(layout: Layout, reach: Reach, sides: Sides) -> None:
    """Published ports: a call from here to the door is judged as a call to what is behind it.

    docker-proxy's own call from the host to the workload is admitted for these ports.
    """
    closed_in = {a for group in reach.closed_in for a in group.addresses}
    closed_out = {group.name for group in reach.closed_out}
    for door in reach.doors:
        behind = [a for a in door.workload.addresses if (":" in a) == (reach.family == 6)]
        shut = bool(closed_in & set(behind))
        if not shut and not closed_out:
            continue
        spot = spots(door.span)[0]
        layout.members["pub" if shut else "pub-out"].add(f"{door.address},{spot}")
        inner = f"{door.span.protocol}:{door.port}"
        if shut:
            layout.members["edge"] |= {f"{door.address},{inner},{a}" for a in behind}
        for group in reach.local:
            if not shut and group.name not in closed_out:
                continue
            target = Party(door.workload, behind[0] if behind else None)
            if opens(sides.pair(group.party, target, reach.family), door):
                layout.members["edge"] |= {
                    f"{a},{spot},{door.address}"
                    for a in group.addresses
                    if not apart(a, door.address)
                }
        layout.members["edge"] |= {f"{a},{spot},{door.address}" for a in behind}


def _lay_far_doors(layout: Layout, reach: Reach, sides: Sides) -> None:
    """Published ports of hosts that see our workloads only as us: judged here, workload by
    workload. What this host calls itself is for the other side to judge."""
    for door in reach.far_doors:
        behind = next(
            (a for a in door.workload.addresses if (":" in a) == (reach.family == 6)), None
        )
        spot = spots(door.span)[0]
        layout.members["pub"].add(f"{door.address},{spot}")
        callers = list(reach.host)
        for group in reach.local:
            if opens(sides.pair(group.party, Party(door.workload, behind), reach.family), door):
                callers += group.addresses
        layout.members["edge"] |= {f"{caller},{spot},{door.address}" for caller in callers}

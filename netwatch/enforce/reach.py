"""Who may reach whom through this host: the answers of all sides, group by group.

An end counts as closed in a direction only if something is really denied there, and as shut only
if somebody is denied protocols that no document names. An end that every document opens to
everybody is the same as one that nobody isolates, and costs no member; one that only keeps some
ports to itself needs no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from netwatch.enforce.ends import Gate, Group
from netwatch.enforce.regions import Region, Span, both, less, united
from netwatch.enforce.sides import Sides
from netwatch.enforce.told import Told, is_default, is_narrow
from netwatch.model.workload import Workload
from netwatch.policy.ir import Party
from netwatch.policy.judgement import Direction


@dataclass(frozen=True, slots=True)
class Cell:
    """`source` may call `destination` on `region`; one of the two is closed and on this host.

    `base` is what the two could call each other on without any rule for this pair."""

    source: Group
    destination: Group
    region: Region
    base: Region


@dataclass(frozen=True, slots=True)
class Outward:
    """`group` and the networks beyond: `networks` may call it (or be called) on `region`.

    `base` as with a Cell."""

    direction: Direction
    group: Group
    region: Region
    networks: tuple[str, ...]
    base: Region


@dataclass(frozen=True, slots=True)
class Door:
    """A published port: `address`:`span` of this host leads to `port` of a workload here."""

    address: str
    span: Span
    workload: Workload
    port: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything the layout needs to know about one family."""

    family: int
    local: tuple[Group, ...]
    closed_in: tuple[Group, ...]
    closed_out: tuple[Group, ...]
    shut_in: tuple[Group, ...]
    shut_out: tuple[Group, ...]
    anyone: tuple[tuple[Group, Region], ...]
    """Narrow spans that everybody may call, of those that are shut."""
    cells: tuple[Cell, ...]
    outward: tuple[Outward, ...]
    doors: tuple[Door, ...]
    far_doors: tuple[Door, ...]
    """Published ports of other hosts' workloads that only the host's address stands for."""
    host: tuple[str, ...]
    """This host's own addresses of the family."""
    granular: tuple[tuple[str, str], ...]
    """(source, destination) of edges that only a host's address stands for; each is the address
    of a workload here, or the name of one on the other host."""


@dataclass(frozen=True, slots=True)
class _Open:
    """One direction of one group: whether anything is denied, whether all is unless permitted,
    and what everybody may: everything, or narrow spans of what is shut."""

    closed: bool
    shut: bool
    base: Region
    outside: tuple[tuple[Region, tuple[str, ...]], ...]


def reach_of(
    sides: Sides,
    groups: Sequence[Group],
    gates: Sequence[Gate],
    doors: Sequence[Door],
    family: int,
) -> Reach:
    """Ask everything about one family."""
    known = [group for group in groups if group.family == family]
    local = [group for group in known if group.local]
    inward = {g.name: _open(sides, Direction.INGRESS, g, known) for g in local}
    outward = {g.name: _open(sides, Direction.EGRESS, g, known) for g in local}
    closed_in = {name for name, state in inward.items() if state.closed}
    closed_out = {name for name, state in outward.items() if state.closed}
    cells = [
        _cell(sides, source, destination, inward, outward)
        for source in known
        for destination in known
        if source.name in closed_out or destination.name in closed_in
    ]
    granular: list[tuple[str, str]] = []
    for gate in gates:
        if gate.family == family:
            cells += _through_gate(sides, gate, local, inward, outward)
            granular += _granular(sides, gate, local, closed_in, closed_out)
    return Reach(
        family,
        tuple(local),
        tuple(g for g in local if g.name in closed_in),
        tuple(g for g in local if g.name in closed_out),
        tuple(g for g in local if inward[g.name].shut),
        tuple(g for g in local if outward[g.name].shut),
        tuple((g, inward[g.name].base) for g in local if inward[g.name].shut),
        tuple(cells),
        (
            *_beyond(Direction.INGRESS, local, inward),
            *_beyond(Direction.EGRESS, local, outward),
        ),
        tuple(door for door in doors if (":" in door.address) == (family == 6)),
        tuple(door for gate in gates if gate.family == family for door in far_doors(sides, gate)),
        tuple(a for group in known if group.party.host for a in group.addresses),
        tuple(dict.fromkeys(granular)),
    )


def renewed(reach: Reach, groups: Iterable[Group], doors: Iterable[Door]) -> Reach:
    """The same for groups of the same names that have other addresses; not with gates."""
    now = {group.name: group for group in groups if group.family == reach.family}

    def those(chosen: Iterable[Group]) -> tuple[Group, ...]:
        return tuple(now[group.name] for group in chosen)

    return replace(
        reach,
        local=those(reach.local),
        closed_in=those(reach.closed_in),
        closed_out=those(reach.closed_out),
        shut_in=those(reach.shut_in),
        shut_out=those(reach.shut_out),
        anyone=tuple((now[group.name], region) for group, region in reach.anyone),
        cells=tuple(
            Cell(now[c.source.name], now[c.destination.name], c.region, c.base)
            for c in reach.cells
        ),
        outward=tuple(
            Outward(o.direction, now[o.group.name], o.region, o.networks, o.base)
            for o in reach.outward
        ),
        doors=tuple(door for door in doors if (":" in door.address) == (reach.family == 6)),
        host=tuple(a for group in now.values() if group.party.host for a in group.addresses),
    )


def telling(reach: Reach, tell: Callable[[Region, Region], Told]) -> Reach:
    """Without what says nothing, where nobody weighs it against what is barred."""
    cells = [(cell, tell(cell.region, cell.base)) for cell in reach.cells]
    outward = [(each, tell(each.region, each.base)) for each in reach.outward]
    if any(said.barred for _, said in (*cells, *outward)):
        return reach
    return replace(
        reach,
        cells=tuple(cell for cell, said in cells if said.speaks),
        outward=tuple(each for each, said in outward if said.speaks),
    )


def _open(sides: Sides, direction: Direction, group: Group, known: Iterable[Group]) -> _Open:
    everything = sides.everything(group.family)
    assert group.party.workload is not None
    if sides.words(direction, group.party.workload) is None:
        return _Open(False, False, everything, ())
    outside = tuple(sides.outside(direction, group.party, group.family))
    anyone = everything
    for region, _ in outside:
        anyone = both(anyone, region)
    for peer in known:
        anyone = both(anyone, sides.side(direction, group.party, peer.party, group.family))
    if is_default(anyone):
        return _Open(anyone != everything, False, everything, outside)
    # who leaves has no set of ports for everybody: both ends must permit
    few = filter(is_narrow, anyone) if direction is Direction.INGRESS else ()
    return _Open(True, True, tuple(few), outside)


def _cell(
    sides: Sides,
    source: Group,
    destination: Group,
    inward: dict[str, _Open],
    outward: dict[str, _Open],
) -> Cell:
    family, everything = source.family, sides.everything(source.family)
    region = sides.pair(source.party, destination.party, family)
    if source.name in outward and outward[source.name].shut:
        return Cell(source, destination, region, ())
    base = inward[destination.name].base if destination.name in inward else everything
    if base == everything and not is_default(region):
        # the other host's end denies it, and will: here is only said what this end denies
        if source.local:
            region = sides.side(Direction.EGRESS, source.party, destination.party, family)
        else:
            region = sides.side(Direction.INGRESS, destination.party, source.party, family)
    return Cell(source, destination, region, base)


def _beyond(
    direction: Direction, local: Iterable[Group], states: dict[str, _Open]
) -> Iterable[Outward]:
    for group in local:
        state = states[group.name]
        for region, networks in state.outside if state.closed else ():
            yield Outward(direction, group, region, networks, state.base)


def _through_gate(
    sides: Sides,
    gate: Gate,
    local: Iterable[Group],
    inward: dict[str, _Open],
    outward: dict[str, _Open],
) -> Iterable[Cell]:
    """Edges with a host that hides its workloads: its address stands for all of them."""
    party = Party(address=gate.address)
    face = Group(f"gate {gate.address}", gate.family, party, (gate.address,), local=False)
    for group in local:
        if inward[group.name].closed:
            region = sides.side(Direction.INGRESS, group.party, party, gate.family)
            for workload in gate.workloads:
                region = united(region, sides.pair(_of(workload), group.party, gate.family))
            yield Cell(face, group, region, inward[group.name].base)
        if outward[group.name].closed:
            region = sides.side(Direction.EGRESS, group.party, party, gate.family)
            for workload in gate.workloads:
                permitted = sides.pair(group.party, _of(workload), gate.family)
                for door in doors_of(workload, (gate.address,)):
                    region = less(region, (door.span,))
                    if opens(permitted, door):
                        region = united(region, (door.span,))
            yield Cell(group, face, region, outward[group.name].base)


def _granular(
    sides: Sides, gate: Gate, local: Iterable[Group], closed_in: set[str], closed_out: set[str]
) -> Iterable[tuple[str, str]]:
    """The permitted edges through a gate, where anybody is isolated at all."""
    for group in local:
        for workload in gate.workloads:
            inward = sides.pair(_of(workload), group.party, gate.family)
            if group.name in closed_in and inward:
                yield from ((workload.key, address) for address in group.addresses)
            outward = sides.pair(group.party, _of(workload), gate.family)
            closed = sides.words(Direction.INGRESS, workload) is not None
            doors = doors_of(workload, (gate.address,))
            if (closed or group.name in closed_out) and any(opens(outward, d) for d in doors):
                yield from ((address, workload.key) for address in group.addresses)


def far_doors(sides: Sides, gate: Gate) -> list[Door]:
    """The doors of a gate whose workloads are not open to everybody.

    Behind the gate nobody can tell our workloads apart, so each source's host has to.
    """
    return [
        door
        for workload in gate.workloads
        if sides.words(Direction.INGRESS, workload) is not None
        for door in doors_of(workload, (gate.address,))
    ]


def _of(workload: Workload) -> Party:
    return Party(workload, workload.addresses[0] if workload.addresses else None)


def opens(region: Region, door: Door) -> bool:
    """Whether the region holds the port behind the door."""
    return any(
        span.protocol == door.span.protocol and span.first <= door.port <= span.last
        for span in region
    )


def doors_of(workload: Workload, host: Iterable[str]) -> list[Door]:
    """The published ports of a workload at these addresses of its host."""
    found = []
    for port in workload.published:
        for address in host:
            everywhere = {"0.0.0.0": 4, "::": 6}.get(port.host_address)
            family = 6 if ":" in address else 4
            if port.host_address in ("", address) or everywhere == family:
                span = Span(port.protocol, port.host_port, port.host_port)
                found.append(Door(address, span, workload, port.port))
    return found

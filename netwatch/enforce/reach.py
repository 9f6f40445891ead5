"""Who may reach whom through this host: the answers of all sides, group by group.

An end counts as closed in a direction only if something is really denied there. An end that every
document opens to everybody is the same as one that nobody isolates, and costs no member.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netwatch.enforce.ends import Gate, Group
from netwatch.enforce.regions import Region, Span, both, less, uncovered, united
from netwatch.enforce.sides import Sides
from netwatch.model.workload import Workload
from netwatch.policy.ir import Party
from netwatch.policy.judgement import Direction


@dataclass(frozen=True, slots=True)
class Cell:
    """`source` may call `destination` on `region`; one of the two is closed and on this host."""

    source: Group
    destination: Group
    region: Region


@dataclass(frozen=True, slots=True)
class Outward:
    """`group` and the networks beyond: `networks` may call it (or be called) on `region`."""

    direction: Direction
    group: Group
    region: Region
    networks: tuple[str, ...]


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
    anyone: tuple[tuple[Group, Region], ...]
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
    """One direction of one group: whether anything is denied, and what everybody may."""

    closed: bool
    anyone: Region
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
    cells: list[Cell] = []
    for source in known:
        for destination in known:
            if source.name in closed_out or destination.name in closed_in:
                region = sides.pair(source.party, destination.party, family)
                if source.name not in closed_out:
                    anyone = inward[destination.name].anyone
                    region = uncovered(region, anyone, whole=sides.everything(family))
                cells.append(Cell(source, destination, region))
    granular: list[tuple[str, str]] = []
    for gate in gates:
        if gate.family == family:
            cells += _through_gate(sides, gate, local, closed_in, closed_out)
            granular += _granular(sides, gate, local, closed_in, closed_out)
    return Reach(
        family,
        tuple(local),
        tuple(g for g in local if g.name in closed_in),
        tuple(g for g in local if g.name in closed_out),
        tuple((g, inward[g.name].anyone) for g in local if g.name in closed_in),
        tuple(cell for cell in cells if cell.region),
        (
            *_beyond(sides, Direction.INGRESS, [g for g in local if g.name in closed_in], inward),
            *_beyond(sides, Direction.EGRESS, [g for g in local if g.name in closed_out], outward),
        ),
        tuple(door for door in doors if (":" in door.address) == (family == 6)),
        tuple(door for gate in gates if gate.family == family for door in far_doors(sides, gate)),
        tuple(a for group in known if group.party.host for a in group.addresses),
        tuple(dict.fromkeys(granular)),
    )


def _open(sides: Sides, direction: Direction, group: Group, known: Iterable[Group]) -> _Open:
    everything = sides.everything(group.family)
    assert group.party.workload is not None
    if sides.words(direction, group.party.workload) is None:
        return _Open(False, everything, ())
    outside = tuple(sides.outside(direction, group.party, group.family))
    anyone = everything
    for region, _ in outside:
        anyone = both(anyone, region)
    for peer in known:
        anyone = both(anyone, sides.side(direction, group.party, peer.party, group.family))
    return _Open(anyone != everything, anyone, outside)


def _beyond(
    sides: Sides, direction: Direction, closed: Iterable[Group], states: dict[str, _Open]
) -> Iterable[Outward]:
    for group in closed:
        state = states[group.name]
        spared = state.anyone if direction is Direction.INGRESS else ()
        for region, networks in state.outside:
            if left := uncovered(region, spared, whole=sides.everything(group.family)):
                yield Outward(direction, group, left, networks)


def _through_gate(
    sides: Sides,
    gate: Gate,
    local: Iterable[Group],
    closed_in: set[str],
    closed_out: set[str],
) -> Iterable[Cell]:
    """Edges with a host that hides its workloads: its address stands for all of them."""
    party = Party(address=gate.address)
    face = Group(f"gate {gate.address}", gate.family, party, (gate.address,), local=False)
    for group in local:
        if group.name in closed_in:
            region = sides.side(Direction.INGRESS, group.party, party, gate.family)
            for workload in gate.workloads:
                region = united(region, sides.pair(_of(workload), group.party, gate.family))
            yield Cell(face, group, region)
        if group.name in closed_out:
            region = sides.side(Direction.EGRESS, group.party, party, gate.family)
            for workload in gate.workloads:
                permitted = sides.pair(group.party, _of(workload), gate.family)
                for door in doors_of(workload, (gate.address,)):
                    region = less(region, (door.span,))
                    if opens(permitted, door):
                        region = united(region, (door.span,))
            yield Cell(group, face, region)


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

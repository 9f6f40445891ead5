"""One of the two compiled edge sets, and what of it outlives a change of workloads.

A container's start changes who is in which group, and hardly ever what a group may do. So the
answers of the policies' Judge, what tells ends apart, who may reach whom group by group, and the
members of pairs that stayed are kept, each by all that it depends on.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass, replace

from netwatch.enforce.ends import (
    Gate,
    Group,
    Known,
    Marks,
    gates,
    groups,
    host_addresses,
    world_of,
)
from netwatch.enforce.laying import layout_of
from netwatch.enforce.layout import Layout, Products, teller
from netwatch.enforce.reach import Door, Reach, doors_of, reach_of, renewed, telling
from netwatch.enforce.regions import Region, family_of
from netwatch.enforce.ruleset import FAMILIES
from netwatch.enforce.sides import Sides
from netwatch.enforce.told import Told
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.ir import InternetPeer, Mode, Policy, World
from netwatch.policy.networks import span

RENEWED_AFTER = 1_000  # times; a Judge remembers each workload that it was asked about
MAX_SHAPES = 16  # of a family: which groups there are


@dataclass(frozen=True, slots=True)
class Grade:
    """What was compiled, by family, and who answered."""

    layouts: dict[int, Layout]
    reaches: dict[int, Reach]
    sides: Sides


class Grader:
    """Compiles documents of some modes; sets and chains of theirs begin with `prefix`."""

    def __init__(self, policies: tuple[Policy, ...], modes: frozenset[Mode], prefix: str) -> None:
        self._policies, self._modes, self._prefix = policies, modes, prefix
        self._salt = mark_of(policies)
        rules = [rule for policy in policies for rule in (*policy.ingress, *policy.egress)]
        self._expiries = sorted({rule.expires for rule in rules if rule.expires is not None})
        self._internet = any(isinstance(p, InternetPeer) for rule in rules for p in rule.peers)
        self._products = {family: Products() for family in FAMILIES}
        self._frame: _Frame | None = None

    def __call__(self, snapshot: Snapshot, now: int) -> Grade:
        """What the documents mean for this snapshot at `now`."""
        frame = self._framed(snapshot, now)
        ends = groups(frame.marks, snapshot, salt=self._salt, known=frame.known)
        host = host_addresses(snapshot)
        doors = [
            door
            for workload in snapshot.workloads
            if workload.published and not workload.host_network
            for door in doors_of(workload, host)
        ]
        hidden = gates(snapshot)
        made = {family: self._made(frame, ends, doors, hidden, family) for family in FAMILIES}
        frame.made = made
        return Grade(
            {family: each.layout for family, each in made.items()},
            {family: each.reach for family, each in made.items()},
            frame.sides,
        )

    def expired(self, now: int) -> int:
        """How many moments have passed at which a rule expired."""
        return bisect_right(self._expiries, now)

    def _framed(self, snapshot: Snapshot, now: int) -> _Frame:
        whole = world_of(snapshot)
        world = replace(whole, workloads=_strangers(whole) if self._internet else ())
        key = world, self.expired(now)
        if self._frame is None or self._frame.key != key or self._frame.used >= RENEWED_AFTER:
            sides = Sides(self._policies, world, now=now, modes=self._modes)
            marks = Marks.of(self._policies, world)
            tellers = {family: teller(sides.everything(family)) for family in FAMILIES}
            self._frame = _Frame(key, sides, marks, tellers)
        self._frame.used += 1
        self._frame.sides.other_workloads()
        return self._frame

    def _made(
        self,
        frame: _Frame,
        ends: list[Group],
        doors: list[Door],
        hidden: list[Gate],
        family: int,
    ) -> _Made:
        key = (
            tuple((group.name, group.addresses) for group in ends if group.family == family),
            tuple(door for door in doors if family_of(door.address) == family),
            tuple(gate for gate in hidden if gate.family == family),
        )
        last = frame.made.get(family)
        if last is not None and last.key == key:
            return last
        shape = family, tuple(name for name, _ in key[0])
        known = frame.shapes.get(shape)
        if known is not None and not hidden:
            reach = renewed(known, ends, doors)
        else:
            reach = reach_of(frame.sides, ends, hidden, doors, family)
            reach = telling(reach, frame.tellers[family])
        if not hidden:
            if len(frame.shapes) >= MAX_SHAPES:
                frame.shapes.clear()
            frame.shapes[shape] = reach
        layout = layout_of(
            reach,
            frame.sides,
            prefix=self._prefix,
            tell=frame.tellers[family],
            products=self._products[family],
        )
        self._products[family].turn()
        return _Made(key, reach, layout)


@dataclass(frozen=True, slots=True)
class _Made:
    """One family; `key` is all that it depends on besides its frame."""

    key: tuple[object, ...]
    reach: Reach
    layout: Layout


@dataclass(slots=True)
class _Frame:
    """What does not depend on the workloads; `key` is all that it depends on."""

    key: tuple[World, int]
    sides: Sides
    marks: Marks
    tellers: dict[int, Callable[[Region, Region], Told]]
    known: Known = field(default_factory=Known)
    shapes: dict[tuple[int, tuple[str, ...]], Reach] = field(default_factory=dict)
    made: dict[int, _Made] = field(default_factory=dict)
    used: int = 0


def _strangers(world: World) -> tuple[Workload, ...]:
    """Workloads that lie in no network of this fleet: they alone say what is not the internet."""
    nets = [span(network) for network in world.networks]

    def inside(address: str) -> bool:
        version, number, _ = span(address)
        return any(v == version and low <= number <= high for v, low, high in nets)

    return tuple(w for w in world.workloads if not all(map(inside, w.addresses)))


def mark_of(policies: Iterable[Policy]) -> str:
    """Ten hex digits for what the documents say, wherever they stand and in whatever order."""
    told = sorted(repr(plain(policy)) for policy in policies)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:10]


def plain(value: object) -> object:
    """Nested tuples with one spelling: a frozenset has no order, and a Place no meaning."""
    if isinstance(value, frozenset):
        return tuple(sorted(map(str, value)))
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if is_dataclass(value):
        named = (f.name for f in fields(value) if f.name != "place")
        return (type(value).__name__, *(plain(getattr(value, name)) for name in named))
    return str(value)

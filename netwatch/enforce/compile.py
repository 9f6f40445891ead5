"""From documents and a snapshot of the host to the ruleset that gives them force.

Pure: the same documents and the same snapshot give the same ruleset, digest included. The kernel
holds what `decide` says with enforcing documents; a second, parallel edge set holds what it would
say with the staged ones too, and only logs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass

from netwatch.enforce.chains import enforcing
from netwatch.enforce.conditions import conditional
from netwatch.enforce.cordon import cordoned
from netwatch.enforce.ends import apart, gates, groups, host_addresses, remote_parties, world_of
from netwatch.enforce.laying import layout_of
from netwatch.enforce.layout import Layout
from netwatch.enforce.portguard import guard_of
from netwatch.enforce.reach import Reach, doors_of, reach_of
from netwatch.enforce.regions import family_of, member
from netwatch.enforce.ruleset import FAMILIES, Facts, MemberSet, Ruleset
from netwatch.enforce.sides import Sides
from netwatch.model.snapshot import Network, Snapshot
from netwatch.policy.evaluate import ENFORCED, STAGED
from netwatch.policy.ir import Mode, Policy
from netwatch.policy.match import governs, selects

__all__ = ["compile", "world_of"]

KINDS = {
    "edge": ("hash:ip,port,ip", "allow"),
    "cidr-in": ("hash:ip,port,net", "allow"),
    "cidr-out": ("hash:ip,port,net", "allow"),
    "bar": ("hash:ip,port,ip", "bar"),
    "bar-in": ("hash:ip,port", "bar"),
    "bar-out": ("hash:ip,port", "bar"),
    "cut-in": ("hash:ip,port,net", "bar"),
    "cut-out": ("hash:ip,port,net", "bar"),
    "far-in": ("hash:ip,port", "bar"),
    "far-out": ("hash:ip,port", "bar"),
    "any": ("hash:ip,port", "anyone"),
    "iso-in": ("hash:ip", "ingress"),
    "shut-in": ("hash:ip", "ingress"),
    "iso-out": ("hash:ip", "egress"),
    "shut-out": ("hash:ip", "egress"),
    "pub": ("hash:ip,port", "ingress"),
    "pub-out": ("hash:ip,port", "ingress"),
}
EVERY_SOURCE = {4: ("0.0.0.0/1", "128.0.0.0/1"), 6: ("::/1", "8000::/1")}


@dataclass(frozen=True, slots=True)
class _Grade:
    """One of the two compiled edge sets."""

    layouts: dict[int, Layout]
    reaches: dict[int, Reach]


def compile(policies: Sequence[Policy], snapshot: Snapshot, *, now: int) -> Ruleset:
    """The ruleset of one host at `now` (ns since the epoch: expired rules say nothing).

    Raises CapReached, naming documents, where a host could not hold the rules.
    """
    ordered = sorted(policies, key=lambda policy: repr(_plain(policy)))
    enforced = tuple(p for p in ordered if p.mode is Mode.ENFORCE)
    staged = tuple(p for p in ordered if p.mode is Mode.STAGE)
    mark = _mark(enforced)
    firm = _grade(enforced, snapshot, now, ENFORCED, prefix="nw-") if enforced else None
    trial = _grade((*enforced, *staged), snapshot, now, STAGED, prefix="nw-s-") if staged else None
    chains = []
    sets: list[MemberSet] = []
    closed = _fail_closed(enforced, snapshot)
    for family in FAMILIES:
        firm_layout = firm.layouts[family] if firm else None
        trial_layout = trial.layouts[family] if trial else None
        chains.append((family, enforcing(firm_layout, trial_layout, mark=mark)))
        for layout in (firm_layout, trial_layout):
            sets += _sets(layout) if layout else []
        if firm or trial:
            sets.append(_known(snapshot, family))
        if firm:
            sets += _guard(closed, family)
    ruleset = Ruleset(
        tuple(chains),
        tuple(sets),
        enforcing=firm is not None,
        facts=_facts(enforced, staged, snapshot, closed, firm),
        guard=guard_of(snapshot, closed),
    )
    return cordoned(conditional(ruleset, enforced, snapshot), snapshot)


def _mark(policies: Iterable[Policy]) -> str:
    """Ten hex digits for what the documents say, wherever they stand and in whatever order."""
    told = sorted(repr(_plain(policy)) for policy in policies)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:10]


def _plain(value: object) -> object:
    """Nested tuples with one spelling: a frozenset has no order, and a Place no meaning."""
    if isinstance(value, frozenset):
        return tuple(sorted(map(str, value)))
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if is_dataclass(value):
        named = (f.name for f in fields(value) if f.name != "place")
        return (type(value).__name__, *(_plain(getattr(value, name)) for name in named))
    return str(value)


def _grade(
    policies: tuple[Policy, ...],
    snapshot: Snapshot,
    now: int,
    modes: frozenset[Mode],
    *,
    prefix: str,
) -> _Grade:
    sides = Sides(policies, world_of(snapshot), now=now, modes=modes)
    ends = groups(policies, snapshot, salt=_mark(policies))
    hidden = gates(snapshot)
    host = host_addresses(snapshot)
    doors = [
        door
        for workload in snapshot.workloads
        if not workload.host_network
        for door in doors_of(workload, host)
    ]
    reaches = {family: reach_of(sides, ends, hidden, doors, family) for family in FAMILIES}
    layouts = {family: layout_of(reach, sides, prefix=prefix) for family, reach in reaches.items()}
    return _Grade(layouts, reaches)


def _sets(layout: Layout) -> list[MemberSet]:
    fixed = [
        MemberSet(
            f"{layout.prefix}{name}",
            layout.family,
            kind,
            phase,
            frozenset(layout.members.get(name, ())),
        )
        for name, (kind, phase) in KINDS.items()
    ]
    return [*fixed, *layout.sets.values()]


def _known(snapshot: Snapshot, family: int) -> MemberSet:
    """Every address with somebody behind it: only pairs of these are judged as pairs."""
    found = {
        *(
            address
            for workload in snapshot.workloads
            if not workload.host_network
            for address in (*workload.addresses, *workload.link_local)
        ),
        *host_addresses(snapshot),
        *(party.address or "" for party in remote_parties(snapshot)),
        *(gate.address for gate in gates(snapshot)),
    }
    members = frozenset(a for a in found if family_of(a) == family)
    return MemberSet("nw-known", family, "hash:ip", "known", members)


def _fail_closed(policies: Iterable[Policy], snapshot: Snapshot) -> list[Network]:
    """Networks on which an enforcing document selects a workload, or did before it went."""
    selecting, world = tuple(policies), world_of(snapshot)
    names = {
        name
        for workload in snapshot.workloads
        if any(governs(policy, workload, world) for policy in selecting)
        for name in (*workload.networks, *(i.network for i in workload.interfaces))
    }
    stay = snapshot.closed if selecting else ()
    return [
        network
        for network in snapshot.networks
        if network.driver == "bridge" and (network.name in names or network.bridge in stay)
    ]


def _guard(closed: Iterable[Network], family: int) -> list[MemberSet]:
    """Where unknown sources are dropped: by bridge, whatever they claim, and by subnet."""
    bridges = {
        f"{source},{network.bridge}"
        for network in closed
        if network.bridge
        for source in EVERY_SOURCE[family]
    }
    subnets = {
        text
        for network in closed
        for subnet in network.subnets
        if family_of(subnet) == family
        for text in member(subnet)
    }
    return [
        MemberSet("nw-bridge", family, "hash:net,iface", "guard", frozenset(bridges)),
        MemberSet("nw-subnet", family, "hash:net", "guard", frozenset(subnets)),
    ]


def _facts(
    enforced: tuple[Policy, ...],
    staged: tuple[Policy, ...],
    snapshot: Snapshot,
    closed: list[Network],
    firm: _Grade | None,
) -> Facts:
    names = {
        address: workload.key
        for neighbour in (None, *snapshot.neighbours)
        for workload in (snapshot.workloads if neighbour is None else neighbour.workloads)
        if not workload.host_network
        for address in (*workload.addresses, *workload.link_local)
    }
    names |= {address: "host" for address in host_addresses(snapshot)}
    granular = {
        f"{names.get(source, source)} -> {names.get(destination, destination)}"
        for reach in (firm.reaches.values() if firm else ())
        for source, destination in reach.granular
    }
    return Facts(
        documents=tuple(policy.title for policy in enforced),
        staged=tuple(policy.title for policy in staged),
        fail_closed=tuple(network.name for network in closed),
        host_granular=tuple(sorted(granular)),
        wide=_wide(firm, names),
        notes=_notes(enforced, snapshot, firm),
        names=tuple(sorted(names.items())),
    )


def _wide(firm: _Grade | None, names: dict[str, str]) -> tuple[str, ...]:
    """Edges that no member stands for: every port, or a long range of them."""
    if firm is None:
        return ()
    found: set[str] = set()
    for family, reach in firm.reaches.items():
        tell = firm.layouts[family].teller()
        for cell in reach.cells:
            said = tell(cell.region, cell.base)
            but = " but some" if said.barred or said.long else ""
            for span in said.wide:
                ports = f"{span.protocol}/{span.first}-{span.last}" if span else "every port"
                found |= {
                    f"{names.get(source, source)} -> {names.get(other, other)} {ports}{but}"
                    for source in cell.source.addresses
                    for other in cell.destination.addresses
                    if source != other and not apart(source, other)
                }
    return tuple(sorted(found))


def _notes(
    enforced: tuple[Policy, ...], snapshot: Snapshot, firm: _Grade | None
) -> tuple[str, ...]:
    notes = []
    world = world_of(snapshot)
    for workload in snapshot.workloads:
        if not any(selects(policy, workload, world) for policy in enforced):
            continue
        if workload.host_network:
            notes.append(f"{workload.key} shares the host's network: it is the host, not isolated")
    layouts = firm.layouts.values() if firm else ()
    published = any(workload.published for workload in snapshot.workloads)
    if published and any(layout.members.get("pub") for layout in layouts):
        notes.append(
            "published ports of isolated workloads admit processes of this host:"
            " docker-proxy calls from the host's address"
        )
    return tuple(notes)

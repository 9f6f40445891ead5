"""From documents and a snapshot of the host to the ruleset that gives them force.

Pure: the same documents and the same snapshot give the same ruleset, digest included. The kernel
holds what `decide` says with enforcing documents; a second, parallel edge set holds what it would
say with the staged ones too, and only logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netwatch.enforce.chains import enforcing
from netwatch.enforce.conditions import conditional
from netwatch.enforce.cordon import cordoned
from netwatch.enforce.ends import apart, gates, host_addresses, remote_parties, world_of
from netwatch.enforce.grades import Grade, Grader, mark_of, plain
from netwatch.enforce.layout import Layout
from netwatch.enforce.portguard import guard_of
from netwatch.enforce.regions import family_of, member
from netwatch.enforce.ruleset import FAMILIES, Chain, Facts, MemberSet, Ruleset
from netwatch.model.snapshot import Network, Snapshot
from netwatch.policy.evaluate import ENFORCED, STAGED
from netwatch.policy.ir import Mode, Policy
from netwatch.policy.match import selects

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


def compile(policies: Sequence[Policy], snapshot: Snapshot, *, now: int) -> Ruleset:
    """The ruleset of one host at `now` (ns since the epoch: expired rules say nothing).

    Raises CapReached, naming documents, where a host could not hold the rules.
    """
    return Compiler(policies)(snapshot, now=now)


class Compiler:
    """Compiles the same documents again and again, for workloads that come and go.

    What it remembers saves work and changes nothing: each ruleset is that of `compile`, which a
    law of the tests holds it to. For one thread at a time.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        ordered = sorted(policies, key=lambda policy: repr(plain(policy)))
        self._enforced = tuple(p for p in ordered if p.mode is Mode.ENFORCE)
        self._staged = tuple(p for p in ordered if p.mode is Mode.STAGE)
        self._mark = mark_of(self._enforced)
        both = (*self._enforced, *self._staged)
        self._firm = Grader(self._enforced, ENFORCED, "nw-") if self._enforced else None
        self._trial = Grader(both, STAGED, "nw-s-") if self._staged else None
        self._chains: dict[int, tuple[object, tuple[Chain, ...]]] = {}
        self._sets: dict[tuple[str, int], tuple[Layout, list[MemberSet]]] = {}
        self._last: tuple[object, Ruleset] | None = None

    def __call__(self, snapshot: Snapshot, *, now: int, told: bool = True) -> Ruleset:
        """As `compile`; without `told` the facts, which are for people, are left out."""
        graders = [each for each in (self._firm, self._trial) if each]
        key = (snapshot, told, *(each.expired(now) for each in graders))
        if self._last is None or self._last[0] != key:
            self._last = key, self._compiled(snapshot, now, told=told)
        return self._last[1]

    def _compiled(self, snapshot: Snapshot, now: int, *, told: bool) -> Ruleset:
        firm = self._firm(snapshot, now) if self._firm else None
        trial = self._trial(snapshot, now) if self._trial else None
        chains = []
        sets: list[MemberSet] = []
        closed = _fail_closed(firm, snapshot) if firm else []
        for family in FAMILIES:
            firm_layout = firm.layouts[family] if firm else None
            trial_layout = trial.layouts[family] if trial else None
            chains.append((family, self._chains_of(family, firm_layout, trial_layout)))
            for layout in (firm_layout, trial_layout):
                sets += self._sets_of(layout) if layout else []
            if firm or trial:
                sets.append(_known(snapshot, family))
            if firm:
                sets += _guard(closed, family)
        ruleset = Ruleset(
            tuple(chains),
            tuple(sets),
            enforcing=firm is not None,
            facts=self._facts(snapshot, closed, firm) if told else Facts(),
            guard=guard_of(snapshot, closed, _isolated(firm)),
        )
        return cordoned(conditional(ruleset, self._enforced, snapshot), snapshot)

    def _chains_of(
        self, family: int, firm: Layout | None, trial: Layout | None
    ) -> tuple[Chain, ...]:
        """The same object while no rule changes."""
        key = firm and firm.ruled(), trial and trial.ruled()
        if family not in self._chains or self._chains[family][0] != key:
            self._chains[family] = key, enforcing(firm, trial, mark=self._mark)
        return self._chains[family][1]

    def _sets_of(self, layout: Layout) -> list[MemberSet]:
        key = layout.prefix, layout.family
        known = self._sets.get(key)
        if known is None or known[0] is not layout:
            known = self._sets[key] = layout, _sets(layout)
        return known[1]

    def _facts(self, snapshot: Snapshot, closed: list[Network], firm: Grade | None) -> Facts:
        names = names_of(snapshot)
        granular = {
            f"{names.get(source, source)} -> {names.get(destination, destination)}"
            for reach in (firm.reaches.values() if firm else ())
            for source, destination in reach.granular
        }
        return Facts(
            documents=tuple(policy.title for policy in self._enforced),
            staged=tuple(policy.title for policy in self._staged),
            fail_closed=tuple(network.name for network in closed),
            host_granular=tuple(sorted(granular)),
            wide=_wide(firm, names),
            notes=_notes(self._enforced, snapshot, firm),
            names=tuple(sorted(names.items())),
        )


def names_of(snapshot: Snapshot) -> dict[str, str]:
    """Who has each address: the key of a workload, or `host`."""
    names = {
        address: workload.key
        for neighbour in (None, *snapshot.neighbours)
        for workload in (snapshot.workloads if neighbour is None else neighbour.workloads)
        if not workload.host_network
        for address in (*workload.addresses, *workload.link_local)
    }
    return names | {address: "host" for address in host_addresses(snapshot)}


def _isolated(firm: Grade | None) -> frozenset[str]:
    """Addresses of workloads whose ingress an enforcing document isolates."""
    layouts = firm.layouts.values() if firm else ()
    return frozenset(a for layout in layouts for a in layout.members.get("iso-in", ()))


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


def _fail_closed(firm: Grade, snapshot: Snapshot) -> list[Network]:
    """Networks on which an enforcing document selects a workload, or did before it went."""
    names = {
        name
        for workload in snapshot.workloads
        if firm.sides.governing(workload)
        for name in (*workload.networks, *(i.network for i in workload.interfaces))
    }
    return [
        network
        for network in snapshot.networks
        if network.driver == "bridge"
        and (network.name in names or network.bridge in snapshot.closed)
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


def _wide(firm: Grade | None, names: dict[str, str]) -> tuple[str, ...]:
    """Edges that no member stands for: every port, or a long range of them."""
    if firm is None:
        return ()
    found: set[str] = set()
    for family, reach in firm.reaches.items():
        tell = firm.layouts[family].tell
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
    enforced: tuple[Policy, ...], snapshot: Snapshot, firm: Grade | None
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

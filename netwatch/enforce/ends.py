"""Who is where: every address that rules can speak of, and who stands behind it.

An end is one address, because networks in policies match addresses; ends that no policy can tell
apart form a group, and whatever is decided for one member holds for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from netwatch.enforce.regions import family_of
from netwatch.model.snapshot import Neighbour, Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.ir import (
    LINK_ENCRYPTED,
    NamePeer,
    NetworkPeer,
    Party,
    PeerSpec,
    Policy,
    Rule,
    Selector,
    WorkloadPeer,
    World,
)
from netwatch.policy.networks import addresses_of, span


@dataclass(frozen=True, slots=True)
class Group:
    """Ends of one family that every policy treats alike. `name` is stable while policies are."""

    name: str
    family: int
    party: Party
    addresses: tuple[str, ...]
    local: bool


@dataclass(frozen=True, slots=True)
class Gate:
    """A host that hides its workloads behind its own addresses (NAT)."""

    address: str
    family: int
    workloads: tuple[Workload, ...]


def networks_named(rules: Iterable[Rule], world: World) -> tuple[str, ...]:
    """Every network, exception and known address of a name that the rules speak of, sorted."""
    peers = {peer for rule in rules for peer in rule.peers}
    return tuple(sorted({text for peer in peers for text in _networks(peer, world)}))


def _networks(peer: PeerSpec, world: World) -> tuple[str, ...]:
    match peer:
        case NetworkPeer(cidr, excepts):
            return (cidr, *excepts)
        case NamePeer():
            return addresses_of(peer, world)
    return ()


def world_of(snapshot: Snapshot) -> World:
    """Everything that a policy can select, as this host knows it."""
    remote = (w for neighbour in snapshot.neighbours for w in neighbour.workloads)
    return World(
        workloads=(*snapshot.workloads, *remote),
        namespaces=snapshot.namespaces,
        networks=tuple(subnet for network in snapshot.networks for subnet in network.subnets),
        host_addresses=snapshot.addresses,
        protected=snapshot.protected,
        names=snapshot.names,
    )


def host_addresses(snapshot: Snapshot) -> tuple[str, ...]:
    """The host's own addresses, those on its bridges included."""
    gateways = (gateway for network in snapshot.networks for gateway in network.gateways)
    return tuple(sorted({*snapshot.addresses, *gateways}))


def apart(one: str, other: str) -> bool:
    """Whether these can never be the two ends of a packet: a link-local and a wider address."""
    return one.startswith("fe80:") is not other.startswith("fe80:")


def together(one: str, other: str) -> bool:
    """Whether these can be the two ends of a packet."""
    return one.startswith("fe80:") is other.startswith("fe80:")


def in_local_subnet(snapshot: Snapshot, address: str) -> bool:
    """Whether the address lies in a subnet of one of this host's networks."""
    return any(
        family_of(subnet) == family_of(address)
        and ip_address(address) in ip_network(subnet, strict=False)
        for network in snapshot.networks
        for subnet in network.subnets
    )


def remote_parties(snapshot: Snapshot) -> list[Party]:
    """Workloads of other hosts whose own addresses reach us (routed, in no local subnet)."""
    return [
        Party(workload, address)
        for neighbour in snapshot.neighbours
        if neighbour.routed
        for workload in neighbour.workloads
        if not workload.host_network
        for address in workload.addresses
        if not in_local_subnet(snapshot, address)
    ]


def gates(snapshot: Snapshot) -> list[Gate]:
    """Hosts with workloads that are only to be seen as the host's own addresses."""
    return [
        Gate(address, family_of(address), hidden)
        for neighbour in snapshot.neighbours
        if (hidden := _hidden(snapshot, neighbour))
        for address in neighbour.addresses
        if not in_local_subnet(snapshot, address)
    ]


def _hidden(snapshot: Snapshot, neighbour: Neighbour) -> tuple[Workload, ...]:
    return tuple(
        workload
        for workload in neighbour.workloads
        if not workload.host_network
        and (
            not neighbour.routed
            or any(in_local_subnet(snapshot, address) for address in workload.addresses)
        )
    )


def groups(marks: Marks, snapshot: Snapshot, *, salt: str, known: Known) -> list[Group]:
    """All ends of this host and its routed neighbours, grouped; `salt` names the policies."""
    members: dict[tuple[object, ...], list[Party]] = {}
    taken: set[str] = set()

    def sort(place: str, party: Party, told: tuple[object, ...]) -> None:
        assert party.address is not None
        if party.address not in taken:  # one address is one end, whoever claims it twice
            taken.add(party.address)
            members.setdefault((place, *told), []).append(party)

    for workload in snapshot.workloads:
        if not workload.host_network:
            for party, told in known.of(workload, marks):
                sort("local", party, told)
    for address in host_addresses(snapshot):
        party = Party(None, address, host=True)
        sort("host", party, marks.told(party))
    for party in remote_parties(snapshot):
        sort("remote", party, marks.told(party))
    known.turn()
    found = [
        Group(
            name=hashlib.sha256(f"{salt}{mark!r}".encode()).hexdigest()[:12],
            family=family_of(parties[0].address or ""),
            party=parties[0],
            addresses=tuple(sorted(party.address or "" for party in parties)),
            local=mark[0] == "local",
        )
        for mark, parties in members.items()
    ]
    return sorted(found, key=lambda group: group.name)


_Ends = tuple[tuple[Party, tuple[object, ...]], ...]


class Known:
    """What the policies see in each workload, remembered while it is the same object."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Workload, _Ends]] = {}
        self._now: dict[int, tuple[Workload, _Ends]] = {}

    def of(self, workload: Workload, marks: Marks) -> _Ends:
        """Its ends, and what they are told apart by; always by the same marks."""
        found = self._last.get(id(workload))
        if found is None:  # one that is remembered keeps its number to itself
            parties = (Party(workload, a) for a in (*workload.addresses, *workload.link_local))
            found = workload, tuple((party, marks.told(party)) for party in parties)
        self._now[id(workload)] = found
        return found[1]

    def turn(self) -> None:
        """Forget those that were not asked for since the turn before."""
        self._last, self._now = self._now, {}


@dataclass(frozen=True, slots=True)
class Marks:
    """What policies can tell ends apart by: selectors, networks and names of ports."""

    selectors: tuple[Selector, ...]
    networks: tuple[str, ...]
    ports: frozenset[str]
    partners: Mapping[str, frozenset[str]]
    """Addresses by those that an encrypted link joins them to, where any rule asks for that."""

    @classmethod
    def of(cls, policies: tuple[Policy, ...], world: World) -> Marks:
        """The marks that these policies use, each once."""
        rules = [rule for policy in policies for rule in (*policy.ingress, *policy.egress)]
        peers = [peer for rule in rules for peer in rule.peers if isinstance(peer, WorkloadPeer)]
        selectors = [policy.subject for policy in policies] + [peer.workloads for peer in peers]
        names = {port.name for rule in rules for port in rule.ports if port.name is not None}
        asked = any(rule.obligation == LINK_ENCRYPTED for rule in rules)
        return cls(
            tuple(dict.fromkeys(selectors)),
            networks_named(rules, world),
            frozenset(names),
            _partners(world) if asked else {},
        )

    def told(self, party: Party) -> tuple[object, ...]:
        """Equal for two parties exactly if no policy can tell them apart."""
        address = party.address or ""
        family = family_of(address)
        number = int(ip_address(address))
        within = tuple(
            text
            for text in self.networks
            for version, first, last in (span(text),)
            if version == family and first <= number <= last
        )
        within += tuple(sorted(self.partners.get(address, ())))
        if party.workload is None:
            return family, within
        labels = party.workload.label_values()
        selected = "".join("01"[selector.matches(labels)] for selector in self.selectors)
        named = tuple(
            sorted(
                (port.name, port.protocol, port.number)
                for port in party.workload.ports
                if port.name in self.ports
            )
        )
        return family, within, party.workload.namespace, selected, named


def _partners(world: World) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for one, other in world.protected:
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {address: frozenset(known) for address, known in found.items()}

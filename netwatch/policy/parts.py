"""The parts of ports and addresses that no rule tells apart: what makes an answer exact for all.

A verdict can change only where some rule's range or network begins or ends, so one question for
each part answers for all of it. `difference` and `assertions` ask by these parts.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from netwatch.model.workload import Workload
from netwatch.policy import networks
from netwatch.policy.ir import (
    InternetPeer,
    NamePeer,
    NetworkPeer,
    Party,
    Policy,
    Requirement,
    WorkloadPeer,
    World,
)
from netwatch.policy.matrix import pair

PROTOCOLS = ("tcp", "udp", "sctp")
LAST_PORT = 65_535
BITS = {4: 32, 6: 128}
_MAPPED = (6, 0xFFFF)  # ::ffff:0:0/96: no packet has such an address (RFC 4291, 2.5.5.2)
OTHER = "icmp"
"""Stands for every protocol without ports: no rule tells one of them from another."""


@dataclass(frozen=True, slots=True)
class Ports:
    """`first` to `last` of a protocol; both None for the protocols without ports."""

    protocol: str
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.first is None:
            return "without ports"
        if (self.first, self.last) == (0, LAST_PORT):
            return f"{self.protocol}/any"
        if self.first == self.last:
            return f"{self.protocol}/{self.first}"
        return f"{self.protocol}/{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class End:
    """Parties that no document of either side tells apart; `other` is one more where there is."""

    party: Party
    other: Party
    name: str
    members: tuple[str, ...]


def parties_of(source: End, destination: End) -> tuple[Party, Party]:
    """One of each end, and two different ones where both are the same end."""
    one, other = source.party.workload, destination.party.workload
    if source is destination:
        other = destination.other.workload
    if one is not None and other is not None:
        return pair(one, other)
    return source.party, destination.party


def port_parts(policies: Iterable[Policy], world: World) -> tuple[Ports, ...]:
    """Every port of every protocol, in order, and the protocols without ports as one."""
    return tuple(_ranges(_starts(policies, world)))


def _ranges(starts: Mapping[str, Sequence[int]]) -> Iterator[Ports]:
    for protocol, firsts in starts.items():
        for first, following in zip(firsts, [*firsts[1:], LAST_PORT + 1], strict=True):
            yield Ports(protocol, first, following - 1)
    yield Ports(OTHER)


def joined(several: Iterable[Ports]) -> Iterator[Ports]:
    """Neighbouring ranges as one."""
    last: Ports | None = None
    for ports in several:
        if (
            last is not None
            and last.last is not None
            and (last.protocol, last.last + 1) == (ports.protocol, ports.first)
        ):
            last = Ports(ports.protocol, last.first, ports.last)
            continue
        if last is not None:
            yield last
        last = ports
    if last is not None:
        yield last


def _starts(policies: Iterable[Policy], world: World) -> dict[str, list[int]]:
    """For each protocol the ports at which a verdict may change, the first one included."""
    rules = [rule for policy in policies for rule in (*policy.ingress, *policy.egress)]
    specs = {spec for rule in rules for spec in rule.ports}
    names = {spec.name for spec in specs if spec.name is not None}
    found: dict[str, set[int]] = {protocol: {0} for protocol in PROTOCOLS}
    for spec in specs:
        if spec.first is None:
            continue
        for protocol in PROTOCOLS if spec.protocol is None else (spec.protocol,):
            found[protocol] |= {spec.first, (spec.last or spec.first) + 1}
    for workload in world.workloads:
        for port in workload.ports:
            if port.name in names and port.protocol in found:
                found[port.protocol] |= {port.number, port.number + 1}
    return {
        protocol: sorted(port for port in ports if port <= LAST_PORT)
        for protocol, ports in found.items()
    }


def workload_ends(policies: Sequence[Policy], world: World) -> Iterator[End]:
    """One end for all workloads that no rule tells apart: replicas, most of the time."""
    keys = {requirement.key for requirement in _requirements(policies)}
    cuts = _cuts(_networks(policies, world))
    groups: dict[object, list[Workload]] = {}
    for workload in world.workloads:
        labels = frozenset(p for p in workload.label_values().items() if p[0] in keys)
        spots = tuple(_spot(cuts, address) for address in workload.addresses)
        key = (workload.namespace, labels, workload.ports, workload.host_network, spots)
        groups.setdefault(key, []).append(workload)
    for group in groups.values():
        parties = tuple(map(Party, group[:2]))
        more = f" and {len(group) - 1} like it" if len(group) > 1 else ""
        members = tuple(workload.key for workload in group)
        yield End(parties[0], parties[-1], f"{group[0].key}{more}", members)


def _requirements(policies: Iterable[Policy]) -> Iterator[Requirement]:
    for policy in policies:
        yield from policy.subject.requirements
        for rule in (*policy.ingress, *policy.egress):
            for peer in rule.peers:
                if isinstance(peer, WorkloadPeer):
                    yield from peer.workloads.requirements


def outside_ends(
    policies: Sequence[Policy], world: World, *, apart: Iterable[NetworkPeer] = ()
) -> Iterator[End]:
    """One address for each part of the outside that some rule, or `apart`, tells from the rest."""
    peers = (*_networks(policies, world), *apart)
    cuts = _cuts(peers)
    known = (*world.host_addresses, *(a for w in world.workloads for a in w.addresses))
    taken = {networks.span(address)[:2] for address in known}
    told: set[object] = set()
    for version, firsts in cuts.items():
        for first, end in zip(firsts, [*firsts[1:], 1 << BITS[version]], strict=True):
            number = next((n for n in range(first, end) if (version, n) not in taken), None)
            if number is None or (version, number >> 32) == _MAPPED:
                continue
            address = _address(version, number)
            mark = (version, tuple(networks.holds(peer, address) for peer in peers))
            if mark not in told:
                told.add(mark)
                party = Party(None, address)
                yield End(party, party, f"outside, as {address}", (address,))


def _networks(policies: Iterable[Policy], world: World) -> tuple[NetworkPeer, ...]:
    """Every network that a rule names, the internet as networks."""
    found: dict[NetworkPeer, None] = {}
    for policy in policies:
        for rule in (*policy.ingress, *policy.egress):
            for peer in rule.peers:
                if isinstance(peer, NetworkPeer):
                    found[peer] = None
                elif isinstance(peer, InternetPeer):
                    found.update(dict.fromkeys(networks.internet(world)))
                elif isinstance(peer, NamePeer):
                    known = networks.addresses_of(peer, world)
                    found.update(dict.fromkeys(map(NetworkPeer, known)))
    return tuple(found)


def _cuts(peers: Iterable[NetworkPeer]) -> dict[int, list[int]]:
    """For each IP version the addresses at which the parts begin that these tell apart."""
    cuts: dict[int, set[int]] = {4: {0}, 6: {0}}
    for peer in peers:
        for cidr in (peer.cidr, *peer.excepts):
            version, first, last = networks.span(cidr)
            cuts[version] |= {first, last + 1}
    return {
        version: sorted(first for first in firsts if first < 1 << BITS[version])
        for version, firsts in cuts.items()
    }


def _spot(cuts: Mapping[int, Sequence[int]], address: str) -> tuple[int, int]:
    version, number, _ = networks.span(address)
    return version, bisect_right(cuts[version], number)


def _address(version: int, number: int) -> str:
    family = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return str(family(number))

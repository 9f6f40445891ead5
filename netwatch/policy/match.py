"""The smallest questions: does this document govern, is this a peer, is this one of the ports."""

from __future__ import annotations

from collections.abc import Set

from netwatch.model.workload import Workload
from netwatch.policy import networks
from netwatch.policy.ir import (
    HostPeer,
    InternetPeer,
    NamePeer,
    NetworkPeer,
    Party,
    PeerSpec,
    Policy,
    PortSpec,
    World,
)


def governs(policy: Policy, workload: Workload, world: World) -> bool:
    """Whether the document selects this workload. What shares the host's network is the host."""
    return not workload.host_network and selects(policy, workload, world)


def selects(policy: Policy, workload: Workload, world: World) -> bool:
    """Whether namespace and labels are those that the document is about."""
    return covers(policy, workload.namespace, world) and policy.subject.matches(
        workload.label_values()
    )


def covers(policy: Policy, namespace: str, world: World) -> bool:
    """Whether the document is about workloads of this namespace."""
    if policy.namespace not in (None, namespace):
        return False
    wanted = policy.namespaces
    return not wanted.requirements or wanted.matches(world.namespace_labels(namespace))


def address_of(party: Party) -> str | None:
    """The address that CIDRs are compared with: the stated one, else the workload's first."""
    if party.address is None and party.workload is not None and party.workload.addresses:
        return party.workload.addresses[0]
    return party.address


def is_host(party: Party) -> bool:
    """Whether this end is the host itself; a container in the host's network is."""
    return party.host or (party.workload is not None and party.workload.host_network)


def linked(protected: Set[tuple[str, str]], one: Party, other: Party) -> bool:
    """Whether a call between these two needs no wire, or goes over one that encrypts.

    Two workloads of one host need none. `protected` holds each pair in both orders.
    """
    if one.workload and other.workload and one.workload.host == other.workload.host:
        return True
    return (address_of(one), address_of(other)) in protected


def peer_matches(peer: PeerSpec, namespace: str | None, world: World, party: Party) -> bool:
    """Whether the party is this peer of a document of `namespace` (None: of no namespace)."""
    match peer:
        case HostPeer():
            return is_host(party)
        case NetworkPeer():
            address = address_of(party)
            return address is not None and networks.holds(peer, address)
        case NamePeer():
            address = address_of(party)
            return address is not None and networks.known_as(peer, address, world)
        case InternetPeer():
            if party.workload is not None or party.host or party.address is None:
                return False
            return networks.Outside(world).holds(party.address)
    workload = party.workload
    if workload is None or is_host(party):
        return False
    if peer.namespaces is None:
        if namespace not in (None, workload.namespace):
            return False
    elif not peer.namespaces.matches(world.namespace_labels(workload.namespace)):
        return False
    return peer.workloads.matches(workload.label_values())


def port_numbers(spec: PortSpec, destination: Workload | None) -> tuple[tuple[str, int, int], ...]:
    """What a named port means at this destination: (protocol, first, last) for each that fits."""
    if destination is None or spec.name is None:
        return ()
    return tuple(
        (port.protocol, port.number, port.number)
        for port in destination.ports
        if port.name == spec.name and spec.protocol in (None, port.protocol)
    )


def port_matches(
    spec: PortSpec, protocol: str, port: int | None, *, destination: Workload | None
) -> bool:
    """Whether this protocol and port at the destination are meant."""
    if spec.protocol not in (None, protocol):
        return False
    if spec.name is not None:
        return any(
            (protocol, port) == (known, number)
            for known, number, _ in port_numbers(spec, destination)
        )
    if spec.first is None:
        return True
    return port is not None and spec.first <= port <= (spec.last or spec.first)

"""What a host knows of itself and its neighbours at one moment: input of agent and compiler."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from netwatch.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Network:
    """A network of this host that workloads are attached to. `driver`: bridge, macvlan, host …

    `parent` is the host's interface that a macvlan or ipvlan network lies on.
    `encrypted` is what an overlay was made to be; whether the wire shows it is another question.
    """

    name: str
    driver: str
    bridge: str | None = None
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    encrypted: bool = False
    parent: str | None = None

    def holds(self, address: str) -> bool:
        """Whether the address lies in one of the subnets."""
        known = ip_address(address)
        return any(
            known.version == held.version and known in held
            for held in (ip_network(text, strict=False) for text in self.subnets)
        )


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another host. `routed`: its workloads' addresses reach us as they are, without NAT."""

    name: str
    addresses: tuple[str, ...]
    routed: bool
    workloads: tuple[Workload, ...] = ()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """`workload` (its key) talks to nobody but the networks in `allow`, `until` (ns; None: ever).

    By name, so that a container that comes back with another address is still in it.
    """

    workload: str
    allow: tuple[str, ...] = ()
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No new connection from `source` to `port` of `destination`, `until` (ns): a session there
    broke its obligation."""

    source: str
    destination: str
    protocol: str
    port: int
    until: int


Addresses = tuple[tuple[str, tuple[str, ...]], ...]
"""DNS names with the addresses that they are known to have."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Frozen, so that whoever computes from it can not be overtaken by an event.

    `uplinks` are the interfaces towards other hosts. `problem` says why it may be incomplete (the
    runtime does not answer), in a sentence for people. `quarantined` are workloads of this host
    that an operator cut off. `protected` are pairs of a local and a far address between which
    nothing leaves this host but in an encrypted tunnel. `names` are the addresses that DNS names
    are known to have, `lapsed` those they had before: for sessions that live on, not for new ones.
    `refused` is what may not begin, whatever policies say; `closed` are bridges that stay closed.
    """

    host: str
    workloads: tuple[Workload, ...] = ()
    networks: tuple[Network, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    namespaces: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    addresses: tuple[str, ...] = ()
    uplinks: tuple[str, ...] = ()
    problem: str | None = None
    quarantined: tuple[Quarantine, ...] = ()
    protected: tuple[tuple[str, str], ...] = ()
    names: Addresses = ()
    lapsed: Addresses = ()
    refused: tuple[Refused, ...] = ()
    closed: tuple[str, ...] = ()

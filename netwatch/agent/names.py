"""Who is behind an address: the view of one host at one moment, made once per snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from netwatch.agent.departed import Departed
from netwatch.enforce.probed import Probed
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.link import Link
from netwatch.model.probe import PORTS
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload

Way = Callable[[str, str, int], Link | None]  # local and far address, interface that saw the far


@dataclass(frozen=True, slots=True)
class Names:
    """Lookups from interface index and address to workload; and what is this host itself.

    `local` are this host's workloads by identity; `way` tells what carries packets out of it;
    `probed` are the connections of netwatch's own probes, `departed` who was here before.
    """

    by_interface: Mapping[int, Workload]
    by_address: Mapping[str, Workload]
    own: frozenset[str]
    listening: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict)
    local: Mapping[str, Workload] = field(default_factory=dict)
    way: Way | None = None
    probed: frozenset[Probed] = frozenset()
    departed: Departed = field(default_factory=Departed)

    def is_probe(self, flow: Flow) -> bool:
        """Whether netwatch made this connection itself."""
        near, far = flow.client, flow.original or flow.server
        return any(
            Probed(flow.protocol, a.address, a.port, b.address, b.port or 0) in self.probed
            for a, b in ((near, far), (far, near))
            if a.port is not None and a.port in PORTS
        )

    def may_be_probe(self, flow: Flow) -> bool:
        """Whether the agent of the client's host may have made it: only it can know, and tells
        what is none of its probes."""
        client = flow.client.workload
        return client is not None and client not in self.local and flow.client.port in PORTS

    def workload(self, address: str, interface: int = 0, moment: int = 0) -> Workload | None:
        """Who sent or received it at that moment.

        The interface says it first: an address can be forged, a cable can not.
        """
        return (
            self.by_interface.get(interface)
            or self.departed.workload(address, interface, moment)
            or self.by_address.get(address)
        )

    def is_here(self, end: Endpoint) -> bool:
        """Whether it is this host itself, or one of its workloads."""
        return end.workload in self.local or end.address in self.own

    def is_known(self, address: str) -> bool:
        """Whether it is a workload's or this host's, and so not outside."""
        return address in self.by_address or address in self.own

    def serves(self, address: str, protocol: str, port: int) -> bool:
        """Whether that end is known to listen there, or documented to."""
        return port in self.served(address, protocol)

    def served(self, address: str, protocol: str) -> frozenset[int]:
        """The ports on which a workload is known to listen, or documented to."""
        workload = self.by_address.get(address)
        if workload is None:
            return frozenset()
        known = self.listening.get(workload.identity, frozenset())
        documented = ((port.protocol, port.number) for port in workload.ports)
        return frozenset(number for spoken, number in (*known, *documented) if spoken == protocol)


def names_of(
    snapshot: Snapshot,
    listening: Mapping[str, frozenset[tuple[str, int]]] | None = None,
    way: Way | None = None,
    probed: frozenset[Probed] = frozenset(),
    departed: Departed | None = None,
) -> Names:
    """The lookups of a snapshot; of neighbours only what reaches us with its own address."""
    remote = [w for n in snapshot.neighbours if n.routed for w in n.workloads]
    by_address = {a: w for w in (*remote, *snapshot.workloads) for a in w.addresses}
    # Two containers may share one network namespace, and then one interface: the first by name.
    by_interface = {
        i.index: w
        for w in sorted(snapshot.workloads, key=lambda w: w.name, reverse=True)
        for i in w.interfaces
    }
    gateways = (g for network in snapshot.networks for g in network.gateways)
    own = frozenset((*snapshot.addresses, *gateways)) - by_address.keys()
    local = {w.identity: w for w in snapshot.workloads}
    return Names(
        by_interface,
        by_address,
        own,
        listening or {},
        local,
        way,
        probed,
        departed or Departed(),
    )

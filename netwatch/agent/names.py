"""Who is behind an address: the view of one host at one moment, made once per snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Names:
    """Lookups from interface index and address to workload; and what is this host itself."""

    by_interface: Mapping[int, Workload]
    by_address: Mapping[str, Workload]
    own: frozenset[str]
    listening: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict)

    def workload(self, address: str, interface: int = 0) -> Workload | None:
        """The interface says it first: an address can be forged, a cable can not."""
        return self.by_interface.get(interface) or self.by_address.get(address)

    def serves(self, address: str, protocol: str, port: int) -> bool:
        """Whether that end is known to listen there, or documented to."""
        workload = self.by_address.get(address)
        if workload is None:
            return False
        if (protocol, port) in self.listening.get(workload.identity, frozenset()):
            return True
        return workload.documents(protocol, port) is not None


def names_of(
    snapshot: Snapshot, listening: Mapping[str, frozenset[tuple[str, int]]] | None = None
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
    return Names(by_interface, by_address, own, listening or {})

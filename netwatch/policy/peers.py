"""Which peers of all rules a party is, without asking every rule.

A selector of workloads, or else of namespaces, that demands `key=value` is looked up by that pair;
only the rest is compared one by one. A test holds this to `match.peer_matches`, the meaning.
"""

from __future__ import annotations

from collections.abc import Iterator

from netwatch.model.workload import Workload
from netwatch.policy.ir import (
    InternetPeer,
    NamePeer,
    Operator,
    Party,
    PeerSpec,
    Selector,
    WorkloadPeer,
    World,
)
from netwatch.policy.match import address_of, is_host, peer_matches
from netwatch.policy.networks import Outside, addresses_of, span

_Pair = tuple[str, str]
_Entry = tuple[int, str | None, WorkloadPeer]


class Peers:
    """The distinct peers of a set of documents, each with a number."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._outside = Outside(world)
        self._numbers: dict[tuple[str | None, PeerSpec], int] = {}
        self._by_pair: dict[_Pair, list[_Entry]] = {}
        self._by_space: dict[_Pair, list[_Entry]] = {}
        self._by_scan: list[_Entry] = []
        self._others: list[tuple[int, PeerSpec]] = []
        self._named: dict[NamePeer, frozenset[tuple[int, int, int]]] = {}

    def number(self, namespace: str | None, peer: PeerSpec) -> int:
        """The number of this peer of a document of `namespace`."""
        known = self._numbers.get((namespace, peer))
        if known is not None:
            return known
        number = self._numbers[(namespace, peer)] = len(self._numbers)
        if not isinstance(peer, WorkloadPeer):
            self._others.append((number, peer))
            return number
        entry = (number, namespace, peer)
        pairs = tuple(demanded(peer.workloads))
        spaces = () if pairs or peer.namespaces is None else tuple(demanded(peer.namespaces))
        for pair in pairs:
            self._by_pair.setdefault(pair, []).append(entry)
        for pair in spaces:
            self._by_space.setdefault(pair, []).append(entry)
        if not pairs and not spaces:
            self._by_scan.append(entry)
        return number

    def of(self, party: Party) -> frozenset[int]:
        """The numbers of all peers that this party is."""
        found = [number for number, peer in self._others if self._is_other(peer, party)]
        if party.workload is not None and not is_host(party):
            found.extend(self._of_workload(party.workload))
        return frozenset(found)

    def _is_other(self, peer: PeerSpec, party: Party) -> bool:
        if isinstance(peer, NamePeer):  # the world may know hundreds of addresses for a wildcard
            if peer not in self._named:
                known = frozenset(span(text) for text in addresses_of(peer, self._world))
                self._named[peer] = known
            address = address_of(party)
            return address is not None and span(address) in self._named[peer]
        if not isinstance(peer, InternetPeer):
            return peer_matches(peer, None, self._world, party)
        if party.workload is not None or party.host or party.address is None:
            return False
        return self._outside.holds(party.address)

    def _of_workload(self, workload: Workload) -> Iterator[int]:
        labels = workload.label_values()
        spaces: dict[Selector, bool] = {}
        own = self._world.namespace_labels(workload.namespace)
        entries = [*self._by_scan]
        for pair in labels.items():
            entries.extend(self._by_pair.get(pair, ()))
        for pair in own.items():
            entries.extend(self._by_space.get(pair, ()))
        for number, namespace, peer in entries:
            if peer.namespaces is None:
                near = namespace in (None, workload.namespace)
            elif peer.namespaces in spaces:
                near = spaces[peer.namespaces]
            else:
                near = spaces[peer.namespaces] = peer.namespaces.matches(own)
            if near and peer.workloads.matches(labels):
                yield number


def demanded(selector: Selector) -> Iterator[_Pair]:
    """The pairs one of which a selected object must have; none if it can do without."""
    for requirement in selector.requirements:
        if requirement.operator is Operator.IN:
            for value in requirement.values:
                yield requirement.key, value
            return

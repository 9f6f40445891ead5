"""The communication graph: workloads and peers and their edges. Here alone is networkx."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from netwatch.model.edge import Edge
from netwatch.model.workload import Workload


def graph(workloads: Iterable[Workload], edges: Iterable[Edge]) -> nx.MultiDiGraph[str]:
    """A node for each `Peer.id`, silent workloads included; an edge keyed by `Edge.id`.

    Nodes carry `kind`, `namespace` and `host`; edges carry `edge`, the whole Edge.
    """
    built: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for workload in workloads:
        built.add_node(
            workload.identity, kind="workload", namespace=workload.namespace, host=workload.host
        )
    for edge in edges:
        for peer in (edge.source, edge.destination):
            built.add_node(peer.id, kind=peer.kind, namespace=peer.namespace, host=peer.host)
        built.add_edge(edge.source.id, edge.destination.id, key=edge.id, edge=edge)
    return built


def components(built: nx.MultiDiGraph[str]) -> tuple[frozenset[str], ...]:
    """Groups of nodes that no edge connects to another group; largest first."""
    groups = (frozenset(group) for group in nx.weakly_connected_components(built))
    return tuple(sorted(groups, key=lambda group: (-len(group), min(group))))


def fan_out(built: nx.MultiDiGraph[str], node: str) -> int:
    """How many different peers a node calls, itself excepted; 0 for a node that is not there."""
    return len(set(built.successors(node)) - {node}) if node in built else 0


def neighbours(built: nx.MultiDiGraph[str], node: str, *, hops: int = 1) -> frozenset[str]:
    """The nodes within that many edges of a node, in either direction, itself included."""
    if node not in built:
        return frozenset()
    around = nx.single_source_shortest_path_length(built.to_undirected(as_view=True), node, hops)
    return frozenset(around)


def reachable(built: nx.MultiDiGraph[str], node: str) -> frozenset[str]:
    """Whom a node's conversations lead to over any number of edges: the way of an intruder."""
    return frozenset(nx.descendants(built, node)) if node in built else frozenset()

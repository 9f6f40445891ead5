"""The graph answers who is connected, and to how many."""

from __future__ import annotations

from netwatch.graph.build import components, fan_out, graph, neighbours, reachable
from netwatch.model.edge import Edge, Peer
from netwatch.model.workload import Workload

A, B, C, D = (Peer("workload", name, "n", "h") for name in "abcd")
ALONE = Workload("h", "n", "alone", "netns")
EDGES = [
    Edge(A, B, "tcp", 80),
    Edge(A, B, "tcp", 443),
    Edge(B, C, "udp", 53),
    Edge(D, D, "tcp", 1),
]


def test_ports_are_edges_of_their_own() -> None:
    built = graph([ALONE], EDGES)
    assert built.number_of_edges(A.id, B.id) == 2
    assert built.edges[A.id, B.id, EDGES[1].id]["edge"] is EDGES[1]


def test_silent_workloads_are_there() -> None:
    built = graph([ALONE], EDGES)
    assert components(built) == (
        frozenset({A.id, B.id, C.id}),
        frozenset({ALONE.identity}),
        frozenset({D.id}),
    )


def test_fan_out_counts_peers_not_ports() -> None:
    built = graph([], EDGES)
    assert [fan_out(built, peer.id) for peer in (A, B, C, D)] == [1, 1, 0, 0]
    assert fan_out(built, "nobody") == 0


def test_neighbours_look_both_ways_and_reach_looks_forward() -> None:
    built = graph([], EDGES)
    assert neighbours(built, C.id) == {B.id, C.id}
    assert neighbours(built, C.id, hops=2) == {A.id, B.id, C.id}
    assert reachable(built, A.id) == {B.id, C.id}
    assert reachable(built, C.id) == frozenset() == neighbours(built, "nobody")

"""Whatever the fleet, the map keeps its limits and loses no byte in silence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netwatch.graph.views import map_view
from netwatch.model.edge import Edge, Peer

peers = st.one_of(
    st.builds(
        lambda name, namespace, host: Peer("workload", name, namespace, host),
        st.sampled_from("abcdef"),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from(["h1", "h2"]),
    ),
    st.builds(lambda name: Peer("host", name, host=name), st.sampled_from(["h1", "h2"])),
    st.builds(lambda n: Peer("external", f"192.0.2.{n}"), st.integers(0, 9)),
)
edges = st.builds(
    lambda source, destination, port, size: Edge(
        source, destination, "tcp", port, bytes=size, first_seen=1, last_seen=2
    ),
    peers,
    peers,
    st.integers(1, 3),
    st.integers(0, 100),
)
fleets = st.lists(edges, max_size=40, unique_by=lambda edge: edge.id)


@given(fleets, st.integers(1, 12), st.integers(1, 12))
def test_limits_hold_and_every_line_has_both_ends(
    fleet: list[Edge], limit_nodes: int, limit_edges: int
) -> None:
    view = map_view([], fleet, [], [], limit_nodes=limit_nodes, limit_edges=limit_edges)
    drawn = {node["id"] for node in view["nodes"]}
    assert len(drawn) == len(view["nodes"]) <= limit_nodes
    assert len(view["edges"]) <= limit_edges
    assert all({edge["source"], edge["target"]} <= drawn for edge in view["edges"])


@given(fleets, st.integers(1, 40))
def test_grouping_adds_up(fleet: list[Edge], limit_nodes: int) -> None:
    """With nothing omitted, lines hold every byte but those that stay inside one group."""
    view = map_view([], fleet, [], [], limit_nodes=limit_nodes)
    members = sum(node["members"] for node in view["nodes"])
    if view["omitted"] == {"nodes": 0, "edges": 0}:
        assert members == len({p.id for e in fleet for p in (e.source, e.destination)})
    if view["aggregated"] is None:
        assert sum(e["bytes"] for e in view["edges"]) == sum(e.bytes for e in fleet)
    else:
        assert sum(e["bytes"] for e in view["edges"]) <= sum(e.bytes for e in fleet)

"""New, gone and changed edges between two views."""

from __future__ import annotations

from dataclasses import replace

from netwatch.graph.comparison import compare
from netwatch.model.edge import Edge, Peer

WEB, DB = (Peer("workload", name, "shop", "a") for name in ("web", "db"))
EDGE = Edge(WEB, DB, "tcp", 5432, connections=1, encryption="encrypted", versions=("TLSv1.3",))
OTHER = replace(EDGE, port=6379)


def test_edges_are_new_gone_changed_or_nothing() -> None:
    """More packets are no change; another encryption or verdict is, and is named."""
    worse = replace(EDGE, encryption="plaintext", verdict="deny", connections=9)
    found = compare([EDGE, OTHER], [worse, replace(OTHER, port=80)])
    assert [edge.port for edge in found.new] == [80]
    assert [edge.port for edge in found.gone] == [6379]
    assert [(c.before, c.after, c.what) for c in found.changed] == [
        (EDGE, worse, ("encryption", "verdict"))
    ]


def test_nothing_differs_from_itself_and_sides_mirror() -> None:
    again = compare([EDGE], [replace(EDGE, connections=2, last_seen=9)])
    assert (again.new, again.gone, again.changed) == ((), (), ())
    assert compare([EDGE], [OTHER]).new == compare([OTHER], [EDGE]).gone

"""The map shows everything that fits, and says what it put together or left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netwatch.graph.views import map_view
from netwatch.model.edge import Edge, Peer
from netwatch.model.finding import Alert, Finding
from netwatch.model.host import HostState
from netwatch.model.workload import Workload

WEB = Workload("a", "shop", "web", "netns", project="store")
DB = Workload("b", "shop", "db", "netns")
EDGE = Edge(
    Peer("workload", "web", "shop", "a"),
    Peer("workload", "db", "shop", "b"),
    "tcp",
    5432,
    connections=2,
    packets=10,
    bytes=100,
    first_seen=1,
    last_seen=2,
    states=("established",),
)


def draw(*edges: Edge, alerts: tuple[Alert, ...] = (), **limits: int) -> dict[str, Any]:
    silent = HostState("b", silent=True)
    return map_view([WEB, DB], edges, [HostState("a"), silent], alerts, **limits)


def test_a_small_fleet_is_drawn_as_it_is() -> None:
    view = draw(EDGE, replace(EDGE, port=22))
    assert [n["id"] for n in view["nodes"]] == ["a/shop/web", "b/shop/db"]
    assert [n["group"] for n in view["nodes"]] == ["store", "shop"]
    assert [n["silent"] for n in view["nodes"]] == [False, True]
    assert [e["label"] for e in view["edges"]] == ["tcp/22", "tcp/5432"]
    assert [e["id"] for e in view["edges"]] == [replace(EDGE, port=22).id, EDGE.id]
    assert (view["aggregated"], view["omitted"]) == (None, {"nodes": 0, "edges": 0})


@pytest.mark.parametrize(
    ("verdict", "staged", "expected"),
    [
        ("allow", None, "allow"),
        ("allow", "allow", "allow"),
        ("allow", "deny", "would-deny"),
        ("deny", "allow", "deny"),
        (None, "deny", "would-deny"),
        (None, None, "unknown"),
        ("unknown", None, "unknown"),
    ],
)
def test_verdict_class(verdict: str | None, staged: str | None, expected: str) -> None:
    (line,) = draw(replace(EDGE, verdict=verdict, staged=staged))["edges"]
    assert line["verdict"] == expected


@pytest.mark.parametrize(
    ("changes", "badge", "documented"),
    [
        ({}, 1, False),
        ({"documented": "image"}, 0, True),
        ({"states": ("refused",)}, 0, False),
        ({"direction": "guessed"}, 0, False),
        ({"destination": Peer("external", "192.0.2.1")}, 0, None),
    ],
)
def test_undocumented_badge(changes: dict[str, Any], badge: int, documented: bool | None) -> None:
    view = draw(replace(EDGE, **changes))
    assert sum(n["badges"]["undocumented"] for n in view["nodes"]) == badge
    assert view["edges"][0]["documented"] is documented


def test_alerts_mark_their_workloads_and_edges_until_resolved() -> None:
    finding = Finding(
        "d", EDGE.id, "high", "t", "a", ({"edge": EDGE.id},), workloads=("a/shop/web",)
    )
    alert = Alert("al_1", finding, "open", 1, 1)
    view = draw(EDGE, alerts=(alert,))
    assert [n["badges"]["alerts"] for n in view["nodes"]] == [1, 0]
    assert view["nodes"][0]["badges"]["severity"] == "high"
    assert view["edges"][0]["alerts"] == 1
    resolved = replace(alert, state="resolved")
    assert draw(EDGE, alerts=(resolved,))["edges"][0]["alerts"] == 0


def many(count: int, *, namespaces: int, hosts: int) -> list[Edge]:
    peers = [
        Peer("workload", f"w{n}", f"ns{n % namespaces}", f"h{n % hosts}") for n in range(count)
    ]
    return [
        replace(EDGE, source=a, destination=b, encryption="encrypted")
        for a, b in zip(peers, peers[1:], strict=False)
    ]


@pytest.mark.parametrize(
    ("edges", "limit", "level"),
    [
        pytest.param(many(20, namespaces=4, hosts=2), 30, None, id="fits"),
        pytest.param(many(20, namespaces=4, hosts=2), 10, "namespace", id="by namespace"),
        pytest.param(many(20, namespaces=20, hosts=3), 10, "host", id="by host"),
        pytest.param(
            [replace(EDGE, destination=Peer("external", f"192.0.2.{n}")) for n in range(50)],
            10,
            "external",
            id="only what is outside",
        ),
    ],
)
def test_the_finest_grouping_that_fits(edges: list[Edge], limit: int, level: str | None) -> None:
    view = draw(*edges, limit_nodes=limit)
    assert view["aggregated"] == level
    assert len(view["nodes"]) <= limit
    assert view["omitted"] == {"nodes": 0, "edges": 0}


def test_a_line_between_groups_shows_its_worst_member() -> None:
    edges = many(20, namespaces=4, hosts=2)
    spoiled = [replace(edges[0], encryption="plaintext", verdict="deny"), *edges[1:]]
    worst = [e for e in draw(*spoiled, limit_nodes=10)["edges"] if e["encryption"] == "plaintext"]
    assert [(e["verdict"], e["members"]) for e in worst] == [("deny", 5)]


def test_what_even_the_coarsest_grouping_has_no_room_for_is_counted() -> None:
    view = draw(*many(50, namespaces=50, hosts=25), limit_nodes=10, limit_edges=3)
    assert (len(view["nodes"]), len(view["edges"])) == (10, 3)
    assert view["omitted"]["nodes"] > 0 and view["omitted"]["edges"] > 0

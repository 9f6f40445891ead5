"""Puts nodes together when there are more than a map can show: the finest grouping that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netwatch.model.edge import Edge, Peer
from netwatch.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the map. `kind`: workload, host, external, or group (stands for several).

    `group` names the box around it: the project of a workload, else its namespace. `known_as` is
    the name of an address outside, `named_by` who said so (see `Peer`).
    """

    id: str
    label: str
    kind: str
    group: str | None = None
    host: str | None = None
    namespace: str | None = None
    known_as: str | None = None
    named_by: str | None = None


@dataclass(frozen=True, slots=True)
class Grouping:
    """`level` is None or what was put together; `place` leads from each peer to its node."""

    level: str | None
    place: dict[str, Node]


def nodes_of(workloads: Iterable[Workload], edges: Iterable[Edge]) -> dict[str, Node]:
    """Every workload, also a silent one, and every end of an edge, by `Peer.id`."""
    nodes = {
        w.identity: Node(
            w.identity, w.name, "workload", w.project or w.namespace, w.host, w.namespace
        )
        for w in workloads
    }
    for edge in edges:
        for peer in (edge.source, edge.destination):
            if peer.id not in nodes or (peer.known_as and not nodes[peer.id].known_as):
                nodes[peer.id] = _node(peer)
    return nodes


def _node(peer: Peer) -> Node:
    return Node(
        peer.id,
        peer.known_as or peer.name,
        peer.kind,
        peer.namespace,
        peer.host,
        peer.namespace,
        peer.known_as,
        peer.named_by,
    )


def grouping(
    nodes: dict[str, Node], edges: Iterable[Edge], *, limit_nodes: int, limit_edges: int
) -> Grouping:
    """The first of _LEVELS that fits both limits, else the last one."""
    ends = [(edge.source.id, edge.destination.id) for edge in edges]
    chosen = Grouping(None, nodes)
    for level, rule in _LEVELS:
        chosen = Grouping(level, {id: rule(node) for id, node in nodes.items()})
        place = chosen.place
        # Ungrouped, each port is a line of its own; grouped, one line joins two nodes.
        pairs = {(place[a].id, place[b].id) for a, b in ends if place[a].id != place[b].id}
        lines = len(ends) if level is None else len(pairs)
        count = len({node.id for node in place.values()})
        if count <= limit_nodes and lines <= limit_edges:
            break
    return chosen


def _each(node: Node) -> Node:
    return node


def _outside(node: Node) -> Node:
    return _group("external", "outside") if node.kind == "external" else node


def _by_namespace(node: Node) -> Node:
    if node.kind != "workload":
        return _outside(node)
    name = node.group or "default"
    return Node(f"group:namespace:{name}", name, "group", name, namespace=name)


def _by_host(node: Node) -> Node:
    return _group("host", node.host) if node.host else _outside(node)


def _group(what: str, name: str) -> Node:
    return Node(f"group:{what}:{name}", name, "group", host=name if what == "host" else None)


_LEVELS: tuple[tuple[str | None, Callable[[Node], Node]], ...] = (
    (None, _each),
    ("external", _outside),
    ("namespace", _by_namespace),
    ("host", _by_host),
)

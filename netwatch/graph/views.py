"""What the map draws: never more than a browser can hold, and nothing left out in silence.

Cytoscape.js stays usable at about 300 nodes and 1,500 edges (measured without a GPU). Beyond that,
peers outside are put together, then workloads by project or namespace, then by host. Each group
says how many it stands for; a line between groups is coloured by its worst member.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netwatch.graph.grouping import Grouping, Node, grouping, nodes_of
from netwatch.model.edge import Edge
from netwatch.model.finding import SEVERITIES, Alert
from netwatch.model.host import HostState
from netwatch.model.times import rfc3339
from netwatch.model.workload import Workload

LIMIT_NODES = 300
LIMIT_EDGES = 1_500
_VERDICTS = ("deny", "would-deny", "unknown", "allow")  # worst first
_ENCRYPTIONS = ("plaintext", "unknown", "encrypted")
_PROTECTIONS = ("neither", "unknown", "tls", "link", "both")
_Line = tuple[str, str, str]  # source node, target node, edge id (empty in a grouped map)


@dataclass(frozen=True, slots=True)
class _Marks:
    """Alerts by what they are about: a peer or an edge; and the hosts whose agent is silent."""

    about: Mapping[str, Sequence[Alert]]
    silent: frozenset[str]


def map_view(
    workloads: Iterable[Workload],
    edges: Iterable[Edge],
    hosts: Iterable[HostState],
    alerts: Iterable[Alert],
    *,
    limit_nodes: int = LIMIT_NODES,
    limit_edges: int = LIMIT_EDGES,
) -> dict[str, Any]:
    """`{"nodes": [...], "edges": [...], "aggregated": LEVEL, "omitted": {"nodes", "edges"}}`.

    LEVEL is null, "external", "namespace" or "host": what was put together to hold the limits.
    `omitted` counts what even that left no room for; the busiest are kept.

    A node: id, label, kind (workload, host, external, group), group (project or namespace), host,
    namespace, known_as and named_by (of an address outside), members, silent (if its agent is),
    badges {undocumented, alerts, severity}.
    An edge: id, source, target, label, protocol, port, verdict (allow, deny, would-deny, unknown),
    encryption (plaintext, unknown, encrypted), protection (the worst of those that leave a host:
    neither, unknown, tls, link, both; null: none leaves), documented (true, false; null: not a
    workload), members, connections, packets, bytes, first_seen, last_seen, alerts.
    Times are RFC 3339. Resolved alerts are not counted.
    """
    edges = list(edges)
    nodes = nodes_of(workloads, edges)
    groups = grouping(nodes, edges, limit_nodes=limit_nodes, limit_edges=limit_edges)
    lines = _lines(edges, groups)
    weight = {line: sum(edge.bytes for edge in members) for line, members in lines.items()}
    shown = _busiest(groups, weight, limit_nodes)
    fitting = [line for line in lines if line[0] in shown and line[1] in shown]
    fitting.sort(key=lambda line: (-weight[line], line))
    drawn = fitting[:limit_edges]
    marks = _marks(hosts, alerts)
    members: dict[str, list[str]] = defaultdict(list)
    for id, node in groups.place.items():
        members[node.id].append(id)
    undocumented = Counter(edge.destination.id for edge in edges if _undocumented(edge))
    return {
        "nodes": [_node(shown[id], members[id], undocumented, marks) for id in sorted(shown)],
        "edges": [_edge(line, lines[line], marks) for line in sorted(drawn)],
        "aggregated": groups.level,
        "omitted": {"nodes": len(members) - len(shown), "edges": len(lines) - len(drawn)},
    }


def _lines(edges: Iterable[Edge], groups: Grouping) -> dict[_Line, list[Edge]]:
    """The lines to draw, and the edges that each stands for. Talk within a group is no line."""
    lines: dict[_Line, list[Edge]] = defaultdict(list)
    for edge in edges:
        source, target = groups.place[edge.source.id].id, groups.place[edge.destination.id].id
        if groups.level is None:
            lines[source, target, edge.id].append(edge)
        elif source != target:
            lines[source, target, ""].append(edge)
    return lines


def _busiest(groups: Grouping, weight: Mapping[_Line, int], limit: int) -> dict[str, Node]:
    bytes_of: Counter[str] = Counter()
    for (source, target, _), amount in weight.items():
        bytes_of[source] += amount
        bytes_of[target] += amount
    nodes = {node.id: node for node in groups.place.values()}
    kept = sorted(nodes, key=lambda id: (-bytes_of[id], id))[:limit]
    return {id: nodes[id] for id in kept}


def _marks(hosts: Iterable[HostState], alerts: Iterable[Alert]) -> _Marks:
    about: dict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        if alert.state == "resolved":
            continue
        edges = {str(entry["edge"]) for entry in alert.finding.evidence if "edge" in entry}
        for subject in {alert.finding.subject, *edges, *alert.finding.workloads}:
            about[subject].append(alert)
    return _Marks(about, frozenset(host.host for host in hosts if host.silent))


def _undocumented(edge: Edge) -> bool:
    return (
        edge.destination.kind == "workload"
        and edge.port is not None
        and edge.documented is None
        and edge.direction == "seen"
        and bool({"established", "reset"} & set(edge.states))
    )


def _node(
    node: Node, members: Sequence[str], undocumented: Mapping[str, int], marks: _Marks
) -> dict[str, Any]:
    alerts = {alert.id: alert for id in members for alert in marks.about.get(id, ())}
    severities = [alert.finding.severity for alert in alerts.values()]
    many = f" +{len(members)}" if node.kind == "group" else ""
    return {
        "id": node.id,
        "label": f"{node.label}{many}",
        "kind": node.kind,
        "group": node.group,
        "host": node.host,
        "namespace": node.namespace,
        "known_as": node.known_as,
        "named_by": node.named_by,
        "members": len(members),
        "silent": node.host in marks.silent,
        "badges": {
            "undocumented": sum(undocumented.get(id, 0) for id in members),
            "alerts": len(alerts),
            "severity": max(severities, key=SEVERITIES.index, default=None),
        },
    }


def _edge(line: _Line, edges: Sequence[Edge], marks: _Marks) -> dict[str, Any]:
    source, target, id = line
    one = edges[0] if id else None
    alerts = {alert.id for edge in edges for alert in marks.about.get(edge.id, ())}
    judged = [e.documented is not None for e in edges if e.destination.kind == "workload"]
    protections = [edge.protection for edge in edges if edge.protection]
    return {
        "id": id or f"{source}>{target}",
        "source": source,
        "target": target,
        "label": _service(one) if one else f"{len(edges)} edges",
        "protocol": one.protocol if one else None,
        "port": one.port if one else None,
        "verdict": min((_verdict(edge) for edge in edges), key=_VERDICTS.index),
        "encryption": min((edge.encryption for edge in edges), key=_ENCRYPTIONS.index),
        "protection": min(protections, key=_PROTECTIONS.index, default=None),
        "documented": all(judged) if judged else None,
        "members": len(edges),
        "connections": sum(edge.connections for edge in edges),
        "packets": sum(edge.packets for edge in edges),
        "bytes": sum(edge.bytes for edge in edges),
        "first_seen": rfc3339(min(edge.first_seen for edge in edges)),
        "last_seen": rfc3339(max(edge.last_seen for edge in edges)),
        "alerts": len(alerts),
    }


def _service(edge: Edge) -> str:
    return edge.protocol if edge.port is None else f"{edge.protocol}/{edge.port}"


def _verdict(edge: Edge) -> str:
    if edge.verdict == "deny":
        return "deny"
    if edge.staged == "deny":
        return "would-deny"
    return "allow" if edge.verdict == "allow" else "unknown"

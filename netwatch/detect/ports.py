"""Undocumented port: a workload answers on a port that nobody wrote down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from netwatch.detect.state import FleetState
from netwatch.model.edge import Edge
from netwatch.model.finding import Finding
from netwatch.model.times import rfc3339
from netwatch.model.workload import Workload

DETECTOR = "undocumented-port"
EVIDENCE_LIMIT = 20
ANSWERED = {"established", "reset"}  # reset: it was open, and one side ended it abruptly
# Linux, net.ipv4.ip_local_port_range. UDP has no SYN to prove who asked first, so a datagram to
# such a port is more likely an answer than a service.
EPHEMERAL = range(32_768, 61_000)


def undocumented_port(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per workload, protocol and port, however many clients use it.

    Only answered conversations of a proven direction count: a scan that was refused says
    nothing about the service, and a guess may have taken the client for the server.
    """
    found: dict[str, list[Edge]] = defaultdict(list)
    for edge in state.edges:
        if _counts(edge) and edge.destination.id in state.workloads:
            found[f"{edge.destination.id}:{edge.protocol}/{edge.port}"].append(edge)
    for subject, edges in sorted(found.items()):
        yield _finding(subject, edges, state.workloads[edges[0].destination.id])


def _counts(edge: Edge) -> bool:
    return bool(
        edge.destination.kind == "workload"
        and edge.port is not None
        and edge.documented is None
        and edge.direction == "seen"
        and ANSWERED & set(edge.states)
        and not (edge.protocol == "udp" and edge.port in EPHEMERAL)
    )


def _finding(subject: str, edges: list[Edge], workload: Workload) -> Finding:
    service = f"{edges[0].protocol}/{edges[0].port}"
    clients = sorted({edge.source.id for edge in edges})
    known = [f"{p.protocol}/{p.number} ({p.source})" for p in workload.ports]
    evidence: list[dict[str, Any]] = [
        {
            "edge": edge.id,
            "first_seen": rfc3339(edge.first_seen),
            "last_seen": rfc3339(edge.last_seen),
            "connections": edge.connections,
            "bytes": edge.bytes,
            "documented_ports": known,
        }
        for edge in sorted(edges, key=lambda edge: edge.last_seen, reverse=True)[:EVIDENCE_LIMIT]
    ]
    who = clients[0] if len(clients) == 1 else f"{len(clients)} peers"
    return Finding(
        detector=DETECTOR,
        subject=subject,
        severity="medium",
        title=f"{workload.key} serves {who} on {service}, which nobody documented",
        advice=(
            f"If {service} is meant to be there, document it (EXPOSE in the image, or the ports "
            "of Compose); if not, find the process that listens and deny the port by a policy."
        ),
        evidence=tuple(evidence),
        host=workload.host,
        workloads=(workload.identity,),
    )

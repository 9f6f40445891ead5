"""Obligation violated: a rule lets this conversation in if it is encrypted, and it was not.

No first packet can tell, so the connection was made; agents judge what its first bytes proved.
"""

from __future__ import annotations

from collections.abc import Iterable

from netwatch.detect.state import FleetState
from netwatch.model.edge import Edge
from netwatch.model.finding import Finding
from netwatch.model.times import rfc3339

DETECTOR = "obligation-violated"


def obligation_violated(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per edge whose last conversation broke what an enforcing rule demands of it."""
    for edge in state.edges:
        if edge.verdict == "violated" and edge.direction == "seen":
            yield _finding(edge)


def _finding(edge: Edge) -> Finding:
    source, destination = edge.source, edge.destination
    what = edge.protocol if edge.port is None else f"{edge.protocol}/{edge.port}"
    return Finding(
        detector=DETECTOR,
        subject=edge.id,
        severity="high",
        title=(
            f"{_called(source.namespace, source.name)} talks to"
            f" {_called(destination.namespace, destination.name)} on {what}, {_seen(edge)}:"
            " less than the rule that allows it demands"
        ),
        advice=(
            "Turn on TLS of the demanded version at the server, and refuse older ones there. "
            "`netwatch policy explain` names the rule with file and line."
        ),
        evidence=(
            {
                "edge": edge.id,
                "first_seen": rfc3339(edge.first_seen),
                "last_seen": rfc3339(edge.last_seen),
                "connections": edge.connections,
                "bytes": edge.bytes,
                "encryption": edge.encryption,
                "versions": list(edge.versions),
                "applications": list(edge.applications),
                "verdict": edge.verdict,
            },
        ),
        host=destination.host or source.host,
        workloads=tuple(peer.id for peer in (source, destination) if peer.kind == "workload"),
    )


def _called(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _seen(edge: Edge) -> str:
    """What was proven, the worst of the edge's conversations."""
    if edge.encryption == "plaintext":
        return "in the clear"
    if edge.versions:
        return f"with {', '.join(edge.versions)}"
    return "and nothing proves that it is encrypted"

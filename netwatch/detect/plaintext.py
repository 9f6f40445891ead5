"""Plaintext across hosts: whoever taps the wire between two hosts reads this conversation.

Not so where the link between them is proven to encrypt. A link that only claims to is no reason to
be silent; the finding says what is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable

from netwatch.detect.state import FleetState
from netwatch.model.edge import Edge
from netwatch.model.finding import Finding
from netwatch.model.times import rfc3339

DETECTOR = "plaintext-across-hosts"


def plaintext_across_hosts(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per edge that leaves its host and is proven plaintext; unknown is not proof.

    None where the link is proven to encrypt.
    """
    for edge in state.edges:
        in_clear = edge.encryption == "plaintext" and edge.protection != "link"
        if edge.crosses_hosts and in_clear and edge.direction == "seen":
            yield _finding(edge)


def _finding(edge: Edge) -> Finding:
    source, destination = edge.source, edge.destination
    speaks = f" ({', '.join(edge.applications)})" if edge.applications else ""
    claimed = (edge.link or "").startswith("claimed ")
    tunnel = (edge.link or "").partition(" ")[2]
    unproven = f" through a link that only claims to encrypt ({tunnel})" if claimed else ""
    return Finding(
        detector=DETECTOR,
        subject=edge.id,
        severity="high",
        title=(
            f"{source.namespace}/{source.name} on {source.host} talks in the clear{speaks} to "
            f"{destination.namespace}/{destination.name} on {destination.host}, "
            f"{edge.protocol}/{edge.port}{unproven}"
        ),
        advice=(
            "Turn on TLS between these two, or carry the traffic between the hosts in an "
            "encrypted link such as WireGuard; until then both should run on one host."
        ),
        evidence=(
            {
                "edge": edge.id,
                "first_seen": rfc3339(edge.first_seen),
                "last_seen": rfc3339(edge.last_seen),
                "connections": edge.connections,
                "bytes": edge.bytes,
                "applications": list(edge.applications),
                "encryption": edge.encryption,
                "link": edge.link,
            },
        ),
        host=source.host,
        workloads=(source.id, destination.id),
    )

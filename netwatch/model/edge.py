"""An edge: all conversations from one identity to a port of another, the worst of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwatch.model.link import protection_of
from netwatch.model.times import rfc3339


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """One end of an edge. `kind`: workload, host or external (an address).

    `known_as` is what an address outside is called, and `named_by` who said so: sni, http, dns
    or cidr (see `Endpoint`).
    The others are those of a workload, as last reported.
    """

    kind: str
    name: str
    namespace: str | None = None
    host: str | None = None
    known_as: str | None = None
    named_by: str | None = None
    image: str | None = None
    image_digest: str | None = None
    project: str | None = None
    service: str | None = None

    @property
    def id(self) -> str:
        """Unique in the fleet: `host/namespace/name`, `host:NAME` or `external:NAME`."""
        if self.kind == "workload":
            return f"{self.host}/{self.namespace}/{self.name}"
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Edge:
    """(`source`, `destination`, `protocol`, `port`) is its key. Sums of both directions.

    `encryption` is the worst of its flows (plaintext, unknown, encrypted); `versions` the
    protocol versions seen. `documented` names the source of the port's documentation, or is None.
    `link` is the worst of what carried its flows out of a host, `STATUS` or `STATUS KIND` as in
    `model.link.Link`; None where nothing left a host, or no agent told.
    """

    source: Peer
    destination: Peer
    protocol: str
    port: int | None
    original_port: int | None = None
    connections: int = 0
    packets: int = 0
    bytes: int = 0
    first_seen: int = 0
    last_seen: int = 0
    encryption: str = "unknown"
    versions: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    direction: str = "seen"
    verdict: str | None = None
    staged: str | None = None
    documented: str | None = None
    link: str | None = None

    @property
    def protection(self) -> str | None:
        """Who protects it on the wire (see `protection_of`); None if it stays within a host."""
        if not self.crosses_hosts and self.link is None:
            return None
        return protection_of(self.encryption, (self.link or "unknown").partition(" ")[0])

    @property
    def id(self) -> str:
        """The key as text, for URLs and for evidence."""
        return f"{self.source.id}>{self.destination.id}:{self.protocol}/{self.port}"

    @property
    def crosses_hosts(self) -> bool:
        """Whether the wire between two hosts carries it."""
        ends = (self.source, self.destination)
        return all(p.kind == "workload" for p in ends) and ends[0].host != ends[1].host


def peer_as_json(peer: Peer) -> dict[str, Any]:
    """One end of an edge as JSON."""
    return {
        "id": peer.id,
        "kind": peer.kind,
        "name": peer.name,
        "namespace": peer.namespace,
        "host": peer.host,
        "known_as": peer.known_as,
        "named_by": peer.named_by,
        "image": peer.image,
        "image_digest": peer.image_digest,
        "project": peer.project,
        "service": peer.service,
    }


def edge_as_json(edge: Edge) -> dict[str, Any]:
    """The object of `netwatch edges --json` and `/api/v1/edges`."""
    return {
        "id": edge.id,
        "source": peer_as_json(edge.source),
        "destination": peer_as_json(edge.destination),
        "protocol": edge.protocol,
        "port": edge.port,
        "original_port": edge.original_port,
        "connections": edge.connections,
        "packets": edge.packets,
        "bytes": edge.bytes,
        "first_seen": rfc3339(edge.first_seen),
        "last_seen": rfc3339(edge.last_seen),
        "encryption": {"status": edge.encryption, "versions": list(edge.versions)},
        "applications": list(edge.applications),
        "states": list(edge.states),
        "direction": edge.direction,
        "verdict": edge.verdict,
        "staged": edge.staged,
        "documented": edge.documented,
        "crosses_hosts": edge.crosses_hosts,
        "link": _link_as_json(edge.link),
        "protection": edge.protection,
    }


def _link_as_json(link: str | None) -> dict[str, str | None] | None:
    status, _, kind = (link or "").partition(" ")
    return {"status": status, "kind": kind or None} if status else None

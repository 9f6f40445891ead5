"""The two reports of one conversation become one edge: the client's figures win, never a sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace

from netwatch.controller.columns import LINKS, Half
from netwatch.controller.fleet import peer_of
from netwatch.graph.external import Groups
from netwatch.model.edge import Edge, Peer
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.workload import Workload

_NO_GROUPS = Groups()
_Key = tuple[str, str, str, int | None]


def edges_of(
    halves: Iterable[Half], known: Mapping[str, Workload], groups: Groups = _NO_GROUPS
) -> tuple[Edge, ...]:
    """Edges by id. `known` are all workloads by identity, those that went included; `groups` name
    what lies outside, where no conversation told a name.

    Figures are the client side's where it reported, else the server's (semantics section 6).
    Plaintext that either side proved is plaintext; what either host denied was denied.
    """
    sides: dict[_Key, dict[str, Half]] = {}
    for half in halves:
        key = (half.source, half.destination, half.protocol, half.port)
        sides.setdefault(key, {})[half.side] = half
    translated = _translated(sides)
    peers: dict[str, Peer] = {}
    edges = []
    for key, told in sides.items():
        both = _joined(key, told, translated)
        if both is None:
            continue
        source, destination, _, _ = key
        for id in (source, destination):
            if id not in peers:
                peers[id] = _grouped(peer_of(id, known), groups)
        edges.append(
            _edge(both, peers[source], _named(both, peers[destination]), known.get(destination))
        )
    return tuple(sorted(edges, key=lambda edge: edge.id))


def _translated(sides: Mapping[_Key, Mapping[str, Half]]) -> set[_Key]:
    """Edges that a server reports from `host:A`, where A's own workload is known to be the client
    through a published port: A's masquerade or docker-proxy called for it. Calls of the host A
    itself are not told apart there, but for those that its own rules translate (`_joined`).
    """
    return {
        (f"host:{source.partition('/')[0]}", destination, protocol, port)
        for (source, destination, protocol, port), both in sides.items()
        if "client" in both and both["client"].original_port is not None and "/" in source
    }


def _joined(
    key: _Key, both: Mapping[str, Half], translated: Set[_Key]
) -> Mapping[str, Half] | None:
    """What is told of an edge; None if it is another's.

    Of a host that calls its own workload one agent tells each conversation once: as the client's
    what its own rules translated, as the server's the rest. These are summed.
    """
    if key in translated:
        both = {side: half for side, half in both.items() if side == "client"}
    host = key[0].removeprefix("host:")
    if len(both) == 2 and host != key[0] and key[1].startswith(f"{host}/"):
        one, other = both["client"], both["server"]
        sums = {
            n: getattr(one, n) + getattr(other, n) for n in ("connections", "packets", "bytes")
        }
        return {**both, "client": replace(one, **sums)}
    return both or None


def _edge(
    both: Mapping[str, Half], source: Peer, destination: Peer, workload: Workload | None
) -> Edge:
    half = both.get("client") or both["server"]
    other = both.get("server") or half
    documented = None
    if workload is not None and half.port is not None:
        documented = workload.documents(half.protocol, half.port)
    return Edge(
        source=source,
        destination=destination,
        protocol=half.protocol,
        port=half.port,
        original_port=half.original_port or other.original_port,
        connections=half.connections,
        packets=half.packets,
        bytes=half.bytes,
        first_seen=min(half.first_seen, other.first_seen),
        last_seen=max(half.last_seen, other.last_seen),
        encryption="plaintext" if other.encryption == "plaintext" else half.encryption,
        versions=half.versions,
        applications=half.applications,
        states=half.states,
        direction="seen" if other.direction == "seen" else half.direction,
        verdict=_worse(half.verdict, other.verdict),
        staged=_worse(half.staged, other.staged),
        documented=documented.source if documented else None,
        link=_link(half, other),
    )


def _worse(one: str | None, other: str | None) -> str | None:
    """Of the two reporters' verdicts: a denial, a broken obligation, else what either says."""
    said = (one, other)
    return next((verdict for verdict in ("deny", "violated") if verdict in said), one or other)


def grouped(flow: Flow, groups: Groups) -> Flow:
    """The flow, its ends outside named by the group they are in where nobody named them."""
    ends = [_end(end, groups) for end in (flow.client, flow.server)]
    return (
        flow
        if ends == [flow.client, flow.server]
        else replace(flow, client=ends[0], server=ends[1])
    )


def _end(end: Endpoint, groups: Groups) -> Endpoint:
    name = None if end.workload or end.name else groups.name(end.address)
    return replace(end, name=name, named_by="cidr") if name else end


def _grouped(peer: Peer, groups: Groups) -> Peer:
    name = groups.name(peer.name) if peer.kind == "external" else None
    return replace(peer, known_as=name, named_by="cidr") if name else peer


def _named(both: Mapping[str, Half], peer: Peer) -> Peer:
    """A name that was told in or before the conversation says more than the group it is in."""
    if peer.kind != "external":
        return peer
    told = next((half.name for half in both.values() if half.name), None)
    return replace(peer, known_as=told[0], named_by=told[1]) if told else peer


def _link(half: Half, other: Half) -> str | None:
    """The worse of what the two hosts say of their own way out; None if neither does."""
    told = [side.link for side in (half, other) if side.link is not None]
    return max(told, key=LINKS.index, default=None)

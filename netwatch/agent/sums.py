"""Flows put together: the two rows of one conversation, and conversations too many to be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netwatch.model.flow import Endpoint, Flow
from netwatch.model.link import STATUSES, Link

STATES = ("established", "reset", "refused", "unanswered", "one-way")  # the stronger first


def joined(flows: Sequence[Flow]) -> tuple[Flow, ...]:
    """One flow a connection: NAT makes two rows of what is one conversation."""
    found: dict[object, Flow] = {}
    for flow in flows:
        key = (_place(flow.client), _place(flow.server), flow.protocol)
        known = found.get(key)
        found[key] = flow if known is None else _added(known, flow)
    return tuple(found.values())


def _place(end: Endpoint) -> tuple[str, int | None, str | None]:
    return end.address, end.port, end.workload


def summed(flows: Sequence[Flow]) -> tuple[Flow, ...]:
    """One flow an edge and encryption: exact in sum, without the clients' ports."""
    found: dict[object, Flow] = {}
    for flow in flows:
        client = replace(flow.client, port=None)
        key = (client, flow.server, flow.protocol, flow.encryption, flow.state, flow.direction)
        known = found.get(key)
        found[key] = replace(flow, client=client) if known is None else _added(known, flow)
    return tuple(found.values())


def _added(one: Flow, other: Flow) -> Flow:
    """Both counted together; what only one of them knows is kept."""
    better = one if one.encryption.status != "unknown" else other
    states = {one.state, other.state}
    halves = states <= {"unanswered", "one-way"} and (
        (one.client_packets and other.server_packets)
        or (one.server_packets and other.client_packets)
    )
    return replace(
        one,
        first_seen=min(one.first_seen, other.first_seen),
        last_seen=max(one.last_seen, other.last_seen),
        client_packets=one.client_packets + other.client_packets,
        server_packets=one.server_packets + other.server_packets,
        client_bytes=one.client_bytes + other.client_bytes,
        server_bytes=one.server_bytes + other.server_bytes,
        client_payload_bytes=one.client_payload_bytes + other.client_payload_bytes,
        server_payload_bytes=one.server_payload_bytes + other.server_payload_bytes,
        connections=one.connections + other.connections,
        state="established" if halves else min(states, key=STATES.index),
        encryption=better.encryption,
        application=better.application,
        direction="seen" if "seen" in (one.direction, other.direction) else "guessed",
        server=one.server if one.server.name else other.server,
        link=_worse(one.link, other.link),
    )


def _worse(one: Link | None, other: Link | None) -> Link | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda link: STATUSES.index(link.status))

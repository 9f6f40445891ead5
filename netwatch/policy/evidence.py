"""What was seen, as replay and learn take it: calls, each counted once, with their ends resolved.

Reads the lines of `netwatch read --json` and `netwatch flows --follow --json`, and the answers of
`netwatch flows --json`, `edges --json` and the API. Both reporters of one connection tell the same
call; only the client side's counts are taken where it has any.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

import msgspec

from netwatch.model.errors import InvalidDocument
from netwatch.model.flow import Flow
from netwatch.model.times import nanoseconds, rfc3339
from netwatch.model.workload import Workload
from netwatch.policy.ir import Party, World
from netwatch.policy.matrix import pair

MAX_CALLS = 1_000_000
"""Distinct calls; those of beyond are counted in `Evidence.dropped`."""
ANSWERED = frozenset({"established", "reset"})
_RANKS = {"plaintext": 2, "unknown": 1, "encrypted": 0}


class _End(msgspec.Struct):
    address: str
    port: int | None = None
    workload: str | None = None


class _Encryption(msgspec.Struct):
    status: str = "unknown"


class _Flow(msgspec.Struct):
    """What is needed of a flow's line."""

    client: _End
    server: _End
    protocol: str
    first_seen: str
    last_seen: str
    state: str = "one-way"
    direction: str = "seen"
    connections: int = 1
    reporter: str = "file"
    verdict: str | None = None
    encryption: _Encryption = msgspec.field(default_factory=_Encryption)


class _Peer(msgspec.Struct):
    kind: str
    name: str
    id: str = ""


class _Edge(msgspec.Struct):
    """What is needed of an edge."""

    id: str
    source: _Peer
    destination: _Peer
    protocol: str
    port: int | None
    first_seen: str
    last_seen: str
    connections: int = 1
    direction: str = "seen"
    verdict: str | None = None
    states: list[str] = []
    encryption: _Encryption = msgspec.field(default_factory=_Encryption)


class _Answer(msgspec.Struct, forbid_unknown_fields=False):
    flows: list[_Flow] | None = None
    edges: list[_Edge] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """All conversations of two ends on one port. Times are nanoseconds; `days` those it was seen.

    `unclear` says why its ends are not known for sure, or is None. `id` is the edge's.
    """

    source: Party
    destination: Party
    protocol: str
    port: int | None
    id: str
    connections: int
    first_seen: int
    last_seen: int
    days: frozenset[date] = frozenset()
    direction: str = "seen"
    verdict: str | None = None
    answered: bool = True
    encryption: str = "unknown"
    unclear: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Calls in the order of their ids, and how many conversations were left out over the limit."""

    calls: tuple[Call, ...] = ()
    dropped: int = 0


@dataclass(slots=True)
class _Tally:
    """One call while it is being counted."""

    source: _End | _Peer
    destination: _End | _Peer
    connections: int = 0
    first_seen: str = ""
    last_seen: str = ""
    days: set[str] = field(default_factory=set)
    directions: set[str] = field(default_factory=set)
    states: set[str] = field(default_factory=set)
    encryption: str = "encrypted"
    verdict: str | None = None
    other_side: int = 0


_Key = tuple[str, str, str, str, str, int | None]


class Reader:
    """Takes texts one after the other; `evidence` gives what they tell together."""

    def __init__(self, world: World) -> None:
        self._resolver = _Resolver(world)
        self._tallies: dict[_Key, _Tally] = {}
        self._dropped = 0
        self._answer = msgspec.json.Decoder(_Answer)
        self._flow = msgspec.json.Decoder(_Flow)
        self._edge = msgspec.json.Decoder(_Edge)

    def read(self, lines: Iterable[str | bytes], file: str) -> None:
        """One object a line, or one answer of a list verb; raises InvalidDocument."""
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                self._take(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise InvalidDocument(
                    f"this is no flow and no edge: {str(error)[:120]}",
                    "give what `netwatch read --json`, `flows --json` or `edges --json` prints",
                    file=file,
                    line=number,
                ) from None

    def add(self, flow: Flow) -> None:
        """A flow, or one that stands for many: those alike in all that a call keeps."""
        client, server = flow.client, flow.server
        line = _Flow(
            client=_End(client.address, client.port, client.workload),
            server=_End(server.address, server.port, server.workload),
            protocol=flow.protocol,
            first_seen=str(rfc3339(flow.first_seen)),
            last_seen=str(rfc3339(flow.last_seen)),
            state=flow.state,
            direction=flow.direction,
            connections=flow.connections,
            reporter=flow.reporter,
            verdict=flow.verdict,
            encryption=_Encryption(flow.encryption.status),
        )
        self._add_flow(line)

    def _take(self, line: str | bytes) -> None:
        try:
            self._add_flow(self._flow.decode(line))
            return
        except msgspec.ValidationError:
            answer = self._answer.decode(line)
        if answer.flows is None and answer.edges is None:
            self._add_edge(self._edge.decode(line))
            return
        for flow in answer.flows or ():
            self._add_flow(flow)
        for edge in answer.edges or ():
            self._add_edge(edge)

    def _add_flow(self, flow: _Flow) -> None:
        client, server = flow.client, flow.server
        key = (
            client.workload or "",
            client.address,
            server.workload or "",
            server.address,
            flow.protocol,
            server.port,
        )
        tally = self._tally(key, client, server, flow.connections)
        if tally is None:
            return
        if flow.reporter == "server":
            tally.other_side += flow.connections
        else:
            tally.connections += flow.connections
        tally.states.add(flow.state)
        _widen(tally, flow)

    def _add_edge(self, edge: _Edge) -> None:
        key = (edge.source.id, "", edge.destination.id, "", edge.protocol, edge.port)
        tally = self._tally(key, edge.source, edge.destination, edge.connections)
        if tally is not None:
            tally.connections += edge.connections
            tally.states.update(edge.states)
            _widen(tally, edge)

    def _tally(
        self, key: _Key, source: _End | _Peer, destination: _End | _Peer, connections: int
    ) -> _Tally | None:
        known = self._tallies.get(key)
        if known is None:
            if len(self._tallies) >= MAX_CALLS:
                self._dropped += connections
                return None
            known = self._tallies[key] = _Tally(source, destination)
        return known

    def evidence(self) -> Evidence:
        """All that was read; raises InvalidDocument for times that are none."""
        calls = [self._call(key, tally) for key, tally in self._tallies.items()]
        calls.sort(key=lambda c: (c.id, c.source.address or "", c.destination.address or ""))
        return Evidence(tuple(calls), self._dropped)

    def _call(self, key: _Key, tally: _Tally) -> Call:
        source, unsure = self._resolver.party(tally.source)
        destination, unclear = self._resolver.party(tally.destination)
        if (
            source.workload
            and destination.workload
            and not (source.address or destination.address)
        ):
            source, destination = pair(source.workload, destination.workload)
        protocol, port = key[4], key[5]
        try:
            first, last = nanoseconds(tally.first_seen), nanoseconds(tally.last_seen)
            days = frozenset(date.fromisoformat(day) for day in tally.days)
        except ValueError as error:
            raise InvalidDocument(f"a flow has no time: {str(error)[:80]}", None) from None
        return Call(
            source,
            destination,
            protocol,
            port,
            id=f"{_id(source)}>{_id(destination)}:{protocol}/{port}",
            connections=tally.connections or tally.other_side,
            first_seen=first,
            last_seen=last,
            days=days,
            direction="seen" if "seen" in tally.directions else "guessed",
            verdict=tally.verdict,
            answered=not tally.states or bool(tally.states & ANSWERED) or protocol != "tcp",
            encryption=tally.encryption,
            unclear=unsure or unclear,
        )


def _widen(tally: _Tally, seen: _Flow | _Edge) -> None:
    """Times of our own lines have one form, so that their text sorts as they do."""
    if not tally.first_seen or seen.first_seen < tally.first_seen:
        tally.first_seen = seen.first_seen
    if seen.last_seen > tally.last_seen:
        tally.last_seen = seen.last_seen
        tally.verdict = seen.verdict
    elif seen.last_seen == tally.last_seen:  # whichever was read first
        tally.verdict = "deny" if seen.verdict == "deny" else tally.verdict or seen.verdict
    tally.days.update((seen.first_seen[:10], seen.last_seen[:10]))
    tally.directions.add(seen.direction)
    status = seen.encryption.status
    if _RANKS.get(status, 1) > _RANKS.get(tally.encryption, 1):
        tally.encryption = status


class _Resolver:
    """Who the ends of flows and edges are in one world."""

    def __init__(self, world: World) -> None:
        self._hosts = frozenset(map(_normal, world.host_addresses))
        self._by_name: dict[str, list[Workload]] = {}
        self._by_address: dict[str, list[Workload]] = {}
        for workload in world.workloads:
            for name in (workload.identity, workload.key):
                self._by_name.setdefault(name, []).append(workload)
            for address in workload.addresses:
                self._by_address.setdefault(_normal(address), []).append(workload)

    def party(self, end: _End | _Peer) -> tuple[Party, str | None]:
        """The party, and why it is not sure."""
        if isinstance(end, _Peer):
            if end.kind == "workload":
                return self._named(end.id, None)
            return (Party(host=True), None) if end.kind == "host" else self._at(end.name)
        if end.workload:
            if end.workload.startswith("host:"):
                return Party(None, end.address, host=True), None
            return self._named(end.workload, end.address)
        return self._at(end.address)

    def _named(self, name: str, address: str | None) -> tuple[Party, str | None]:
        found = self._by_name.get(name) or self._by_name.get(name.partition("/")[2], [])
        if len(found) == 1:
            return Party(found[0], address), None
        why = "is not in the world any more" if not found else "is more than one workload"
        return Party(None, address), f"{name[:120]} {why}"

    def _at(self, address: str) -> tuple[Party, str | None]:
        try:
            address = _normal(address)
        except ValueError:
            return Party(None, None), f"no address of {address[:120]} is known"
        found = self._by_address.get(address, [])
        if len(found) == 1:
            return Party(found[0], address), None
        if found:
            return Party(None, address), f"{address} is more than one workload"
        return Party(None, address, host=address in self._hosts), None


def _normal(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _id(party: Party) -> str:
    if party.workload is not None:
        return party.workload.identity
    return "host" if party.host else f"external:{party.address}"


def suspects(alerts: Iterable[Mapping[str, object]]) -> frozenset[str]:
    """The ids of edges that open alerts are about, from the rows of `netwatch alerts --json`."""
    found: set[str] = set()
    for alert in alerts:
        if alert.get("state") == "resolved":
            continue
        found.add(str(alert.get("subject")))
        evidence = alert.get("evidence")
        for item in evidence if isinstance(evidence, list) else ():
            if isinstance(item, dict) and "edge" in item:
                found.add(str(item["edge"]))
    return frozenset(found)


def outcasts(
    alerts: Iterable[Mapping[str, object]], quarantined: Iterable[str], world: World
) -> frozenset[str]:
    """Identities whose calls teach nothing: in quarantine (by key), or claimed by another image.

    `alerts` are the rows of `netwatch alerts --json`.
    """
    keys = set(quarantined)
    found = {w.identity for w in world.workloads if keys & {w.key, w.identity}}
    for alert in alerts:
        if alert.get("detector") == "identity-claimed" and alert.get("state") != "resolved":
            names = alert.get("workloads")
            found.update(map(str, names) if isinstance(names, list) else ())
    return frozenset(found)


def without(evidence: Evidence, ids: frozenset[str]) -> tuple[Evidence, tuple[Call, ...]]:
    """The evidence less the calls with these ids, and those calls."""
    kept = tuple(call for call in evidence.calls if call.id not in ids)
    return replace(evidence, calls=kept), tuple(c for c in evidence.calls if c.id in ids)

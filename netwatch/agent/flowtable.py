"""From counted connections to flows: who is the client, who is behind the addresses, what is new.

The sensor gives totals per connection; the table gives what was added since the last time, with
the workloads' names, NAT joined, and the encryption that the first bytes prove. A young connection
is held back until its first bytes are classified, so that a flow is not first told as unknown and
then otherwise. Pure: time is an argument, and what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy.typing as npt

from netwatch.agent.addresses import text_of
from netwatch.agent.conversations import Conversations, Tuple5
from netwatch.agent.names import Names
from netwatch.agent.sums import joined, summed
from netwatch.capture.sensor import ENTRY, Batch, Payload, Translation
from netwatch.dissect.dns import host_name
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.link import Link
from netwatch.model.times import SECOND

HOLD = 2 * SECOND  # a TLS handshake over a slow link is through; longer would delay the map
# What was told as unknown after HOLD is judged again while more is said, and the store corrects
# what it has of that connection; a server on a busy machine has answered by then.
PATIENCE = 60 * SECOND
MAX_FLOWS = 20_000  # a report; more connections than that are told as one flow per edge
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}
SYN_ACK, RST, FIN = 0x12, 0x04, 0x01
IGMP = 2  # how a bridge keeps its groups; like neighbour discovery, nobody's conversation


class _Totals(NamedTuple):
    """The counters of one row of ENTRY, by direction (low, high)."""

    packets: tuple[int, int] = (0, 0)
    bytes: tuple[int, int] = (0, 0)
    payload: tuple[int, int] = (0, 0)
    opened: int = 0
    refused: int = 0
    life: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """One changed row of ENTRY in Python's own types."""

    key: Tuple5
    totals: _Totals
    first: tuple[int, int]
    last: tuple[int, int]
    interfaces: tuple[int, int]
    flags: tuple[int, int]
    low_is_client: int
    born: int

    @property
    def ended(self) -> int:
        return max(self.last)


class FlowTable:
    """Remembers the totals that were told, and the translations; everything else is computed."""

    def __init__(self, host: str, *, limit: int = MAX_FLOWS) -> None:
        self._host = host
        self._limit = limit
        self._told: dict[Tuple5, _Totals] = {}
        self._translations: dict[tuple[int, frozenset[tuple[bytes, int]]], Translation] = {}
        self._conversations = Conversations()
        self._held: dict[Tuple5, int] = {}
        self._released: set[tuple[Tuple5, int]] = set()
        self._folded = 0
        self._probes = 0

    def collect(self, payloads: Iterable[Payload]) -> None:
        """Take the first bytes of connections."""
        for payload in payloads:
            self._conversations.add(payload)

    def fold(self, batch: Batch, names: Names, now: int) -> tuple[Flow, ...]:
        """What was added since the last fold, as flows with at least one workload at an end."""
        self._learn(batch.translations)
        self.collect(batch.payloads)
        flows = []
        for row in self._changed(batch.entries, now):
            flow = self._flow(row, names, now)
            if flow is not None:
                flows.append(flow)
        self._prune(batch.entries)
        self._folded = now
        whole = joined(flows)
        return whole if len(whole) <= self._limit else summed(whole)

    def finished(self) -> tuple[Payload, ...]:
        """Connections that need no more payload, in the shape a sensor is told so, each once."""
        released, self._released = tuple(self._released), set()
        return tuple(
            Payload(*key, from_low=True, offset=0, connection=connection, data=b"")
            for key, connection in released
        )

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason."""
        return (
            ("first bytes not kept", self._conversations.dropped),
            ("own probes set aside", self._probes),
        )

    def _learn(self, translations: Sequence[Translation]) -> None:
        for known in translations:
            for source, sport, destination, dport in (known.original, known.reply):
                ends = frozenset(((source, sport), (destination, dport)))
                self._translations[(known.protocol, ends)] = known
        while len(self._translations) > 2 * self._limit:
            self._translations.pop(next(iter(self._translations)))

    def _changed(self, entries: npt.NDArray[Any], now: int) -> Iterable[_Row]:
        # What is held back spoke at most an interval before HOLD began; a second for the clocks.
        since = max(0, self._folded - HOLD - (now - self._folded) - SECOND)
        recent = entries[(entries["last"] > since).any(axis=1) & (entries["protocol"] != IGMP)]
        for values in _rows(recent):
            row = _row(values)
            if row.totals.packets != self._told_of(row).packets:
                yield row

    def _flow(self, row: _Row, names: Names, now: int) -> Flow | None:
        key = row.key
        protocol = PROTOCOLS.get(key.protocol, str(key.protocol))
        low_is_client, seen = _direction(row, names, protocol, self._translation(key))
        closing, closed = _ending(row, now)
        waited = now - self._held_since(row, now) >= HOLD
        classified = self._conversations.verdict(
            key,
            low_is_client=low_is_client,
            protocol=protocol,
            complete=closed,
        )
        finished = classified is not None and classified.finished
        if not (finished or closing or waited):
            return None
        told = self._told_of(row)
        self._told[key] = row.totals
        self._held.pop(key, None)
        if finished:
            self._released.add((key, self._conversations.connection(key)))
        flow = _oriented(row, told, protocol, names, low_is_client=low_is_client, seen=seen)
        flow = _translated(flow, self._translation(key), names)
        if flow.client.workload is None and flow.server.workload is None:
            return None
        if names.is_probe(flow):
            self._probes += flow.connections
            return None
        if names.may_be_probe(flow):
            flow = replace(flow, direction="guessed")
        encryption = classified.encryption if classified else Encryption()
        link = self._link(flow, row, names, low_is_client=low_is_client)
        return replace(
            flow,
            server=_called(flow.server, encryption, self._conversations.host(key), names),
            link=link,
            host=self._host,
            encryption=encryption,
            application=classified.application if classified else None,
            reporter=self._reporter(flow),
        )

    def _held_since(self, row: _Row, now: int) -> int:
        """When the first packet came of what has not been told; 0 if there is nothing to wait for.

        A connection is waited for once: when it is new, also on the ports of an older one.
        """
        told = self._told_of(row)
        fresh = told.life != row.totals.life
        if not fresh and told.opened == row.totals.opened:
            return 0
        return self._held.setdefault(row.key, row.born if fresh else now)

    def _told_of(self, row: _Row) -> _Totals:
        """What was told of this row; nothing if its totals began anew meanwhile."""
        told = self._told.get(row.key)
        return told if told is not None and told.life == row.totals.life else _Totals()

    def _translation(self, key: Tuple5) -> Translation | None:
        ends = frozenset(((key.low, key.low_port), (key.high, key.high_port)))
        return self._translations.get((key.protocol, ends))

    def _reporter(self, flow: Flow) -> str:
        mine = f"{self._host}/"
        local = [
            end.workload is not None and end.workload.startswith(mine)
            for end in (flow.client, flow.server)
        ]
        return "both" if all(local) else "client" if local[0] else "server"

    def _link(self, flow: Flow, row: _Row, names: Names, *, low_is_client: bool) -> Link | None:
        """What carries it out of this host; None if both ends are here."""
        if names.way is None:
            return None
        client_is_here = names.is_here(flow.client)
        if client_is_here and names.is_here(flow.server):
            return None
        local, far = flow.client.address, flow.server.address
        if not client_is_here:
            local, far = far, local
        # The far end is the high one exactly if the near one, be it client or server, is the low.
        return names.way(local, far, row.interfaces[client_is_here == low_is_client])

    def _prune(self, entries: npt.NDArray[Any]) -> None:
        if len(self._told) + len(self._held) <= 2 * len(entries) + 1024:
            return
        live = {_key(values) for values in _rows(entries)}
        for key in [key for key in (*self._told, *self._held) if key not in live]:
            self._told.pop(key, None)
            self._held.pop(key, None)
            self._conversations.forget(key)


def _rows(entries: npt.NDArray[Any]) -> Iterable[tuple[Any, ...]]:
    """Rows in Python's own types: `tolist` of the whole would leave numpy's in the pairs."""
    return zip(*(entries[name].tolist() for name in ENTRY.names or ()), strict=True)


def _key(values: tuple[Any, ...]) -> Tuple5:
    return Tuple5(*values[:5])


def _row(values: tuple[Any, ...]) -> _Row:
    """A row of ENTRY, in the order of its fields."""
    hint, packets, size, payload, first, last, interfaces, flags, *counts = values[5:]
    totals = _Totals(tuple(packets), tuple(size), tuple(payload), *counts)
    born = min(filter(None, first))
    key, ways = _key(values), (tuple(first), tuple(last), tuple(interfaces), tuple(flags))
    return _Row(key, totals, *ways, hint, born)


def _ending(row: _Row, now: int) -> tuple[bool, bool]:
    """(an end has said that it is done, no more is waited for).

    Flags and age are of all connections on these ports: of the second one they say nothing.
    """
    if row.totals.opened > 1:
        return False, False
    one, other = row.flags
    closed = (one | other) & RST or one & other & FIN or now - row.born >= PATIENCE
    return bool((one | other) & (RST | FIN)), bool(closed)


def _direction(
    row: _Row, names: Names, protocol: str, translation: Translation | None
) -> tuple[bool, bool]:
    """(the low end is the client, it was seen): SYN, conntrack, listener, port, else guessed."""
    key = row.key
    if row.low_is_client >= 0 and protocol == "tcp":
        return bool(row.low_is_client), True
    if translation is not None:
        client, server = translation.original[:2], translation.reply[:2]
        low = (key.low, key.low_port)
        return low == client or (low != server and (key.high, key.high_port) == server), True
    low_serves = names.serves(text_of(key.low), protocol, key.low_port)
    high_serves = names.serves(text_of(key.high), protocol, key.high_port)
    if low_serves != high_serves:
        return high_serves, True
    first_low, first_high = row.first
    return bool(first_low) and (not first_high or first_low <= first_high), False


def _oriented(
    row: _Row, told: _Totals, protocol: str, names: Names, *, low_is_client: bool, seen: bool
) -> Flow:
    """The increase since `told`, as a flow between the two ends of the row."""
    key, now = row.key, row.totals
    c, s = (0, 1) if low_is_client else (1, 0)
    ends = []
    for packed, port, interface in (
        (key.low, key.low_port, row.interfaces[0]),
        (key.high, key.high_port, row.interfaces[1]),
    ):
        workload = names.workload(text_of(packed), interface, row.born)
        identity = workload.identity if workload else None
        ends.append(Endpoint(text_of(packed), port if _has_ports(protocol) else None, identity))
    known_before = any(told.packets)
    opened = now.opened - told.opened
    return Flow(
        client=ends[c],
        server=ends[s],
        protocol=protocol,
        first_seen=row.born,
        last_seen=row.ended,
        client_packets=now.packets[c] - told.packets[c],
        server_packets=now.packets[s] - told.packets[s],
        client_bytes=now.bytes[c] - told.bytes[c],
        server_bytes=now.bytes[s] - told.bytes[s],
        client_payload_bytes=now.payload[c] - told.payload[c],
        server_payload_bytes=now.payload[s] - told.payload[s],
        state=_state(row, protocol, c, s),
        direction="seen" if seen else "guessed",
        connections=opened if protocol == "tcp" else int(not known_before),
    )


def _has_ports(protocol: str) -> bool:
    return protocol in ("tcp", "udp", "sctp")


def _state(row: _Row, protocol: str, c: int, s: int) -> str:
    """How the conversation went so far; see `model.flow.Flow`."""
    if not row.totals.packets[s] or not row.totals.packets[c]:
        if row.totals.refused:
            return "refused"
        return "unanswered" if protocol == "tcp" and row.totals.packets[c] else "one-way"
    if protocol != "tcp":
        return "established"
    if row.flags[s] & SYN_ACK == SYN_ACK or row.totals.payload[c] or row.totals.payload[s]:
        return "reset" if (row.flags[0] | row.flags[1]) & RST else "established"
    return "refused" if row.totals.refused or row.flags[s] & RST else "established"


def _translated(flow: Flow, translation: Translation | None, names: Names) -> Flow:
    """The flow between the two real ends; `original` keeps where the client aimed."""
    if translation is None:
        return flow
    source, sport, aimed, aimed_port = translation.original
    server, server_port = translation.reply[:2]
    client_end, server_end = text_of(source), text_of(server)
    behind_client, behind_server = (
        names.workload(end, moment=flow.first_seen) for end in (client_end, server_end)
    )
    rewritten = (aimed, aimed_port) != (server, server_port)
    return replace(
        flow,
        client=Endpoint(client_end, sport, behind_client.identity if behind_client else None),
        server=Endpoint(
            server_end, server_port, behind_server.identity if behind_server else None
        ),
        original=Endpoint(text_of(aimed), aimed_port) if rewritten else None,
    )


def _called(server: Endpoint, encryption: Encryption, asked: str | None, names: Names) -> Endpoint:
    """A server outside by the name that its client said in this conversation."""
    if server.workload is not None or names.is_known(server.address):
        return server
    told = host_name(encryption.server_name)
    if told is not None:
        return replace(server, name=told, named_by="sni")
    return replace(server, name=asked, named_by="http") if asked else server

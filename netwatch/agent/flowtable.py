"""From counted connections to flows: who is the client, who is behind the addresses, what is new.

The sensor gives totals per connection; the table gives what was added since the last time, with
the workloads' names, NAT joined, and the encryption that the first bytes prove. A young connection
is held back until its first bytes are classified, so that a flow is not first told as unknown and
then otherwise. What began as one of too many is told as one flow per edge, whose encryption nobody
knows. Pure: time is an argument, and what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from netwatch.agent.addresses import text_of
from netwatch.agent.conversations import Conversations, Tuple5
from netwatch.agent.crowd import Crowd, may_be_summed
from netwatch.agent.names import Names
from netwatch.agent.row import PROTOCOLS, Row, ending, is_new, rows_of, state
from netwatch.agent.sums import joined, summed
from netwatch.agent.told import KEY, Changed, Rows, Told, keys_of
from netwatch.capture.sensor import Batch, Payload, Translation
from netwatch.dissect.answer import Classified
from netwatch.dissect.dns import host_name
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.link import Link
from netwatch.model.times import SECOND

HOLD = 2 * SECOND  # a TLS handshake over a slow link is through; longer would delay the map
MAX_FLOWS = 20_000  # a report; more connections than that are told as one flow per edge
_UNKNOWN = Encryption()
SLACK = SECOND // 10  # the kernel's coarse clock is late by up to 10 ms
IGMP = 2  # how a bridge keeps its groups; like neighbour discovery, nobody's conversation


class _Judged(NamedTuple):
    """A row that is told now; `seen`: that the low end is the client, or is not, was seen."""

    row: Row
    low_is_client: bool
    seen: bool
    classified: Classified | None

    @property
    def is_encrypted(self) -> bool:
        return self.classified is not None and self.classified.encryption.status == "encrypted"


class _Ends(NamedTuple):
    """Of a flow: its client and server, and where the client aimed if that is another."""

    client: Endpoint
    server: Endpoint
    original: Endpoint | None = None


class FlowTable:
    """Remembers the totals that were told, and the translations; everything else is computed."""

    def __init__(self, host: str, *, limit: int = MAX_FLOWS) -> None:
        self._host = host
        self._limit = limit
        self._told = Told()
        self._crowd = Crowd()
        self._translations: dict[bytes, Translation] = {}  # by KEY
        self._conversations = Conversations()
        self._held: dict[int, tuple[int, Row]] = {}  # by place
        self._released: set[tuple[Tuple5, int]] = set()
        self._folded = 0  # when what was read last began to be read, by the monotonic clock
        self._probes = 0

    def collect(self, payloads: Iterable[Payload]) -> None:
        """Take the first bytes of connections."""
        for payload in payloads:
            self._conversations.add(payload)

    def fold(self, batch: Batch, names: Names, now: int) -> tuple[Flow, ...]:
        """What was added since the last fold, as flows with at least one workload at an end."""
        self._learn(batch.translations)
        self.collect(batch.payloads)
        changed = self._changed(batch)
        crowded = self._is_crowd(changed.rows, names)
        sums = self._crowd.take(changed, crowded, names, young=now - HOLD)
        self._told.keep(sums.places, sums.totals)
        gone, waiting = self._held_back(changed, crowded)
        singly = changed.part(~crowded)
        judged = [self._judge(row, names, now, last=True) for row in gone]
        told, totals = [], []
        for row in (*waiting, *rows_of(singly, is_new(singly))):
            found = self._judge(row, names, now)
            if found is not None:
                self._held.pop(row.place, None)
                told.append(row.place)
                totals.append(row.totals._replace(encrypted=found.is_encrypted))
                judged.append(found)
        self._told.keep(told, list(zip(*totals, strict=True)))
        self._prune(batch.entries)
        self._folded = batch.moment
        whole = joined(self._flows(judged, names))
        whole += summed(self._flows([self._unjudged(row, names) for row in sums.rows], names))
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
                self._translations[_key((source, sport), (destination, dport), known.protocol)] = (
                    known
                )
        while len(self._translations) > 2 * self._limit:
            self._translations.pop(next(iter(self._translations)))

    def _changed(self, batch: Batch) -> Changed:
        since = max(0, self._folded + batch.clock - SLACK)
        spoke = (batch.entries["last"] > since).any(axis=1)
        return self._told.compare(batch.entries, spoke & (batch.entries["protocol"] != IGMP))

    def _is_crowd(self, rows: Rows, names: Names) -> Rows:
        """A mask of what is told as sums; what NAT rewrote is joined one by one."""
        crowd = may_be_summed(rows, names)
        if self._translations and crowd.any():
            crowd &= [key not in self._translations for key in keys_of(rows)]
        return crowd

    def _held_back(self, changed: Changed, crowded: Rows) -> tuple[list[Row], list[Row]]:
        """(what the kernel has thrown out for others, what is as it was last seen)."""
        if not self._held:
            return [], []
        touched = np.isin(changed.places, list(self._held))
        places, lived = changed.places[touched].tolist(), changed.rows["life"][touched].tolist()
        lives = dict(zip(places, lived, strict=True))
        rows = [row for _, row in self._held.values()]
        gone = [row for row in rows if lives.get(row.place, row.totals.life) != row.totals.life]
        for place in (*(row.place for row in gone), *changed.places[crowded & touched].tolist()):
            self._held.pop(place, None)
        return gone, [row for row in rows if row.place not in lives]

    def _judge(self, row: Row, names: Names, now: int, *, last: bool = False) -> _Judged | None:
        """What is told of a row; None while it is held back, unless this is the `last` of it."""
        protocol = PROTOCOLS.get(row.key.protocol, str(row.key.protocol))
        low_is_client, seen = _direction(row, names, protocol, self._translation(row.key))
        closing, closed = ending(row, now)
        answered = row.crowded and all(row.totals.packets)  # and nothing more will be known of it
        waited = last or answered or now - self._held_since(row, now) >= HOLD
        classified = None
        if not row.crowded:
            classified = self._conversations.verdict(
                row.key,
                connection=row.connection,
                low_is_client=low_is_client,
                protocol=protocol,
                complete=closed,
            )
        finished = classified is not None and classified.finished
        if not (finished or closing or waited):
            return None
        if finished:
            self._released.add((row.key, row.connection))
        return _Judged(row, low_is_client, seen, _of_all(classified, row))

    def _unjudged(self, row: Row, names: Names) -> _Judged:
        """A sum of connections whose first bytes nobody has."""
        protocol = PROTOCOLS.get(row.key.protocol, str(row.key.protocol))
        return _Judged(row, *_direction(row, names, protocol, None), None)

    def _flows(self, judged: Iterable[_Judged | None], names: Names) -> list[Flow]:
        found = (self._flow(each, names) for each in judged if each is not None)
        return [flow for flow in found if flow is not None]

    def _flow(self, judged: _Judged, names: Names) -> Flow | None:
        """The increase as a flow; None if it is nobody's that we tell of."""
        row, low_is_client, seen, classified = judged
        key, now, told = row.key, row.totals, row.told
        protocol = PROTOCOLS.get(key.protocol, str(key.protocol))
        c, s = (0, 1) if low_is_client else (1, 0)
        two = _ends(row, protocol, names)
        ends = _translated(_Ends(two[c], two[s]), self._translation(key), row, names)
        if ends.client.workload is None and ends.server.workload is None:
            return None
        encryption = classified.encryption if classified else _UNKNOWN
        asked = self._conversations.host(key) if classified else None
        flow = Flow(  # made at once: each change of one costs 10 us
            client=ends.client,
            server=_called(ends.server, encryption, asked, names),
            protocol=protocol,
            first_seen=row.born,
            last_seen=row.ended,
            client_packets=now.packets[c] - told.packets[c],
            server_packets=now.packets[s] - told.packets[s],
            client_bytes=now.bytes[c] - told.bytes[c],
            server_bytes=now.bytes[s] - told.bytes[s],
            client_payload_bytes=now.payload[c] - told.payload[c],
            server_payload_bytes=now.payload[s] - told.payload[s],
            state=state(row, protocol, c, s),
            application=classified.application if classified else None,
            direction="seen" if seen else "guessed",
            encryption=encryption,
            connections=row.opened if protocol == "tcp" else row.new,
            reporter=self._reporter(ends, names),
            host=self._host,
            original=ends.original,
            link=self._link(ends, row, names, low_is_client=low_is_client),
        )
        if names.is_probe(flow):
            self._probes += flow.connections
            return None
        return replace(flow, direction="guessed") if names.may_be_probe(flow) else flow

    def _held_since(self, row: Row, now: int) -> int:
        """When the first packet came of what has not been told; 0 if there is nothing to wait for.

        A connection is waited for once: when it is new, also on the ports of an older one.
        """
        fresh = row.told.life != row.totals.life
        if not fresh and not row.opened:
            return 0
        since, _ = self._held.get(row.place, (row.born if fresh else now, row))
        since = min(since, now)  # a clock that was set back makes nobody wait for longer
        self._held[row.place] = since, row
        return since

    def _translation(self, key: Tuple5) -> Translation | None:
        return self._translations.get(KEY.pack(*key)) if self._translations else None

    def _reporter(self, ends: _Ends, names: Names) -> str:
        mine = f"{self._host}/"
        local = [
            end.workload is not None and end.workload.startswith(mine)
            for end in (ends.client, ends.server)
        ]
        # Its own rules translated it: the host is the client, not a proxy that calls for another.
        local[0] |= local[1] and ends.original is not None and _is_host(ends.client, names)
        return "both" if all(local) else "client" if local[0] else "server"

    def _link(self, ends: _Ends, row: Row, names: Names, *, low_is_client: bool) -> Link | None:
        """What carries it out of this host; None if both ends are here."""
        if names.way is None:
            return None
        client_is_here = names.is_here(ends.client)
        if client_is_here and names.is_here(ends.server):
            return None
        local, far = ends.client.address, ends.server.address
        if not client_is_here:
            local, far = far, local
        # The far end is the high one exactly if the near one, be it client or server, is the low.
        return names.way(local, far, row.interfaces[client_is_here == low_is_client])

    def _prune(self, entries: Rows) -> None:
        if len(self._told) > 2 * len(entries) + 1024:
            kept = {*self._held, *self._crowd.places}
            for key in self._told.forget_all_but(entries, kept):
                self._conversations.forget(Tuple5(*KEY.unpack(key)))


def _key(one: tuple[bytes, int], other: tuple[bytes, int], protocol: int) -> bytes:
    (low, low_port), (high, high_port) = sorted((one, other))
    return KEY.pack(low, high, low_port, high_port, protocol)


def _of_all(classified: Classified | None, row: Row) -> Classified | None:
    """The verdict, if it is one about all that is told now: the bytes of the last connection on
    these ports do not prove that those before it were encrypted, nor what the one before had
    still to say."""
    alone = not row.opened or (row.opened == 1 and (row.new or row.told.encrypted))
    if alone or classified is None or classified.encryption.status != "encrypted":
        return classified
    return replace(classified, encryption=Encryption())


def _direction(
    row: Row, names: Names, protocol: str, translation: Translation | None
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


def _ends(row: Row, protocol: str, names: Names) -> tuple[Endpoint, Endpoint]:
    """The low and the high end of a row, and who is there."""
    key, ports = row.key, _has_ports(protocol)
    low, high = text_of(key.low), text_of(key.high)
    here = names.workload(low, row.interfaces[0], row.born)
    there = names.workload(high, row.interfaces[1], row.born)
    return (
        Endpoint(low, key.low_port if ports else None, here.identity if here else None),
        Endpoint(high, key.high_port if ports else None, there.identity if there else None),
    )


def _has_ports(protocol: str) -> bool:
    return protocol in ("tcp", "udp", "sctp")


def _is_host(end: Endpoint, names: Names) -> bool:
    return end.workload is None and names.is_here(end)


def _translated(ends: _Ends, translation: Translation | None, row: Row, names: Names) -> _Ends:
    """The two real ends; `original` is where the client aimed."""
    if translation is None:
        return ends
    source, sport, aimed, aimed_port = translation.original
    server, server_port = translation.reply[:2]
    client_end, server_end = text_of(source), text_of(server)
    behind_client, behind_server = (
        names.workload(end, moment=row.born) for end in (client_end, server_end)
    )
    rewritten = (aimed, aimed_port) != (server, server_port)
    return _Ends(
        Endpoint(client_end, sport, behind_client.identity if behind_client else None),
        Endpoint(server_end, server_port, behind_server.identity if behind_server else None),
        Endpoint(text_of(aimed), aimed_port) if rewritten else None,
    )


def _called(server: Endpoint, encryption: Encryption, asked: str | None, names: Names) -> Endpoint:
    """A server outside by the name that its client said in this conversation."""
    if server.workload is not None or names.is_known(server.address):
        return server
    told = host_name(encryption.server_name)
    if told is not None:
        return replace(server, name=told, named_by="sni")
    return replace(server, name=asked, named_by="http") if asked else server

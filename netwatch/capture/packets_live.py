"""Packets to a table of conversations that is true at this second: the live half of `read`.

A line is a peer, a direction, a port and a protocol, as seen from one workload; its connections
are added up. Encryption is said of the whole line only where all its connections prove the same.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netwatch.capture.files import pcap
from netwatch.capture.files.reading import Gathering
from netwatch.capture.packets import LONGEST
from netwatch.capture.record import header
from netwatch.model.flow import Flow

MOST_CONNECTIONS = 20_000  # as flows these take 0.2 s to look through, and that every second
Key = tuple[str, str, int | None, str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line. `direction`: out (the workload is the client), in, or other (neither end is its);
    `guessed` where nothing proved who is the client. `rate` is bytes a second, both ways.
    """

    peer: str
    direction: str
    port: int | None
    protocol: str
    encryption: str
    rate: float
    bytes: int
    connections: int
    state: str
    guessed: bool


class Live:
    """What one workload, which has these `addresses`, says to whom. `names` are by address.

    Memory is bounded: beyond MOST_CONNECTIONS it starts afresh, and `forgotten` counts what was
    let go; a connection that goes on after that is `unknown` again in its encryption.
    """

    def __init__(self, addresses: Collection[str], names: Mapping[str, str]) -> None:
        self._own = frozenset(addresses)
        self._names = names
        self._gathered = Gathering()
        self._before: dict[Key, int] = {}
        self._waiting: list[bytes] = []
        self.forgotten = 0

    def add(self, records: Sequence[bytes]) -> None:
        """Take pcap records."""
        self._waiting += records

    def conversations(self, seconds: float) -> tuple[Conversation, ...]:
        """The lines, the busiest of the last `seconds` (those since the last call) first."""
        self._gather()
        reading = self._gathered.reading()
        lines: dict[Key, list[Flow]] = {}
        for flow in reading.flows():
            lines.setdefault(self._key(flow), []).append(flow)
        totals = {key: sum(map(_bytes, flows)) for key, flows in lines.items()}
        found = [
            _conversation(key, flows, (totals[key] - self._before.get(key, 0)) / seconds)
            for key, flows in lines.items()
        ]
        self._before = totals
        if len(reading.rows) > MOST_CONNECTIONS:
            self.forgotten += len(reading.rows)
            self._gathered, self._before = Gathering(), {}
        return tuple(sorted(found, key=lambda c: (-c.rate, -c.bytes, c.peer, c.port or 0)))

    def _gather(self) -> None:
        if not self._waiting:
            return
        stream = io.BytesIO(b"".join(self._waiting))
        self._waiting = []
        for frames in pcap.frames(header(LONGEST), stream):
            self._gathered.add(frames)

    def _key(self, flow: Flow) -> Key:
        client, server = flow.client.address, flow.server.address
        if client in self._own:
            return self._name(server), "out", flow.server.port, flow.protocol
        if server in self._own:
            return self._name(client), "in", flow.server.port, flow.protocol
        ends = f"{self._name(client)} to {self._name(server)}"
        return ends, "other", flow.server.port, flow.protocol

    def _name(self, address: str) -> str:
        return self._names.get(address, address)


def _bytes(flow: Flow) -> int:
    return flow.client_bytes + flow.server_bytes


def _conversation(key: Key, flows: Sequence[Flow], rate: float) -> Conversation:
    peer, direction, port, protocol = key
    return Conversation(
        peer,
        direction,
        port,
        protocol,
        _encryption(flows),
        max(rate, 0.0),
        sum(map(_bytes, flows)),
        sum(flow.connections for flow in flows),
        _counted(flow.state for flow in flows),
        any(flow.direction == "guessed" for flow in flows),
    )


def _encryption(flows: Sequence[Flow]) -> str:
    """What all of them prove; of several things all, with how often: never more than is proven."""
    return _counted(
        (flow.encryption.version or flow.encryption.protocol or "encrypted")
        if flow.encryption.status == "encrypted"
        else flow.encryption.status
        for flow in flows
    )


def _counted(words: Iterable[str]) -> str:
    found = Counter(words).most_common()
    if len(found) == 1:
        return found[0][0]
    return ", ".join(f"{word} {count}" for word, count in found)


def conversation_as_json(conversation: Conversation) -> dict[str, Any]:
    """One element of `conversations` in a line of `netwatch capture NAME --summary --json`."""
    return {
        "peer": conversation.peer,
        "direction": conversation.direction,
        "guessed": conversation.guessed,
        "port": conversation.port,
        "protocol": conversation.protocol,
        "encryption": conversation.encryption,
        "bytes_per_second": round(conversation.rate),
        "bytes": conversation.bytes,
        "connections": conversation.connections,
        "state": conversation.state,
    }

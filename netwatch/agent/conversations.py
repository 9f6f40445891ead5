"""The first bytes of each connection, put in order, until they say what they can.

Bounded in connections and in bytes; what is given up is counted. Pure: bytes in, verdicts out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from netwatch.capture.sensor import Payload
from netwatch.dissect.conversation import Classified, classify
from netwatch.dissect.http_host import host_of

MAX_OPEN = 8_192  # connections whose bytes are kept: at most 128 MB, in practice 5 MB
MAX_KNOWN = 65_536  # verdicts remembered for the packets that come after the first bytes
MAX_BYTES = 8 * 1024  # a direction; more is never needed to name what is spoken


class Tuple5(NamedTuple):
    """A connection's key, as in `capture.sensor.ENTRY`: canonical order, packed addresses."""

    low: bytes
    high: bytes
    low_port: int
    high_port: int
    protocol: int


@dataclass(slots=True)
class _Open:
    connection: int
    low: bytearray = field(default_factory=bytearray)
    high: bytearray = field(default_factory=bytearray)
    # Of the datagrams that the bytes came in: their borders mean something to QUIC and DTLS.
    low_sizes: list[int] = field(default_factory=list)
    high_sizes: list[int] = field(default_factory=list)
    changed: bool = True


class Conversations:
    """Collects payloads by connection; `verdict` classifies when asked, and remembers."""

    def __init__(self, *, max_open: int = MAX_OPEN, max_known: int = MAX_KNOWN) -> None:
        self._max_open = max_open
        self._max_known = max_known
        self._open: dict[Tuple5, _Open] = {}
        self._known: dict[Tuple5, tuple[int, Classified, str | None]] = {}
        self.dropped = 0

    def add(self, payload: Payload) -> None:
        """Append a piece that continues what is there; what leaves a gap is not kept."""
        key = key_of(payload)
        known = self._known.get(key)
        if known is not None and known[0] == payload.connection and known[1].finished:
            return
        collected = self._open.get(key)
        if collected is None or collected.connection != payload.connection:
            collected = self._begin(key, payload.connection)
        side = collected.low if payload.from_low else collected.high
        overlap = len(side) - payload.offset
        if 0 <= overlap < len(payload.data):
            before = len(side)
            side += payload.data[overlap : overlap + MAX_BYTES - len(side)]
            sizes = collected.low_sizes if payload.from_low else collected.high_sizes
            sizes.append(len(side) - before)
            collected.changed = True

    def verdict(
        self, key: Tuple5, *, connection: int, low_is_client: bool, protocol: str, complete: bool
    ) -> Classified | None:
        """What the bytes of that connection prove so far; None if there are none, or only those
        of another one on the same ports. `complete`: no more will come."""
        collected = self._open.get(key)
        mine = collected is not None and collected.connection == connection
        if collected is not None and mine and (collected.changed or complete):
            collected.changed = False
            ends = (
                (bytes(collected.low), collected.low_sizes),
                (bytes(collected.high), collected.high_sizes),
            )
            client, server = ends if low_is_client else ends[::-1]
            result = classify(
                client[0],
                server[0],
                protocol=protocol,
                complete=complete,
                client_sizes=client[1],
                server_sizes=server[1],
            )
            asked = host_of(client[0]) if result.application == "http" else None
            self._remember(key, collected.connection, result, asked)
            if result.finished:
                del self._open[key]
        known = self._known.get(key)
        return known[1] if known and known[0] == connection else None

    def host(self, key: Tuple5) -> str | None:
        """The name of the server that a plain HTTP request asked for, or None."""
        known = self._known.get(key)
        return known[2] if known else None

    def forget(self, key: Tuple5) -> None:
        """The connection is gone."""
        self._open.pop(key, None)
        self._known.pop(key, None)

    def _begin(self, key: Tuple5, connection: int) -> _Open:
        self._open.pop(key, None)
        self._known.pop(key, None)
        while len(self._open) >= self._max_open:
            del self._open[next(iter(self._open))]
            self.dropped += 1
        return self._open.setdefault(key, _Open(connection))

    def _remember(
        self, key: Tuple5, connection: int, result: Classified, host: str | None
    ) -> None:
        self._known.pop(key, None)
        while len(self._known) >= self._max_known:
            del self._known[next(iter(self._known))]
        self._known[key] = (connection, result, host)


def key_of(payload: Payload) -> Tuple5:
    """The connection that a payload belongs to."""
    return Tuple5(payload.low, payload.high, payload.low_port, payload.high_port, payload.protocol)

"""Connections in the words of the model, each with what its bytes proved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from ipaddress import IPv6Address
from itertools import chain
from socket import AF_INET6, inet_ntop
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import odd
from netwatch.capture.files.frames import Ints
from netwatch.capture.files.packets import Words
from netwatch.capture.files.paths import Paths
from netwatch.capture.files.payloads import Conversation
from netwatch.capture.files.rows import Rows
from netwatch.dissect.answer import Classified
from netwatch.model.flow import Endpoint, Flow, Tunnel

# The protocol numbers that are written by name (IANA "Protocol Numbers").
PROTOCOLS = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    132: "sctp",
    136: "udplite",
}
_NAMES = np.array([PROTOCOLS.get(number) or str(number) for number in range(256)], dtype=object)
_OCTETS = np.array([str(number) for number in range(256)], dtype=object)
_SEEN = np.array(["guessed", "seen"], dtype=object)
_COUNTS = ("packets", "bytes", "payload")
_WRAPPED = np.uint64(0xFFFFFFFFFFFF)
# Beyond every port.
_PORTLESS = 1 << 16
_PORTED = np.zeros(256, dtype=bool)
_PORTED[[odd.TCP, odd.UDP, odd.DCCP, odd.SCTP, odd.UDPLITE]] = True
_NOTHING = Classified()
# Rows that are turned into plain Python numbers at a time.
_BATCH = 1 << 12


def _open(kind: type) -> type[Any]:
    """A class of the same slots whose objects are not frozen yet.

    A frozen object sets each field through a function call; making it open and closing it
    afterwards (`__class__`) takes a fifth of the time, which was half of what a flow costs. With
    only one of both methods Python would still call a function.
    """
    open_again = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(kind.__name__, (kind,), {"__slots__": (), **open_again})


_OPEN_FLOW, _OPEN_ENDPOINT = _open(Flow), _open(Endpoint)
# What a capture says nothing of.
_LIVE_FLOW = tuple(each.default for each in fields(Flow)[17:])
_LIVE_ENDPOINT = tuple(each.default for each in fields(Endpoint)[2:])


def flows(
    rows: Rows, conversations: Sequence[Conversation | None], paths: Paths
) -> Iterator[Flow]:
    """Rows of `rows.ROW` as flows; `conversations` has one per row, None if it said nothing."""
    parts = (slice(begin, begin + _BATCH) for begin in range(0, len(rows), _BATCH))
    return chain.from_iterable(_batch(rows[part], conversations[part], paths) for part in parts)


def _batch(
    rows: Rows, conversations: Sequence[Conversation | None], paths: Paths
) -> Sequence[Flow]:
    """All that can be said of many rows at once is, column by column."""
    sides, seen = _clients(rows)
    answers = [_NOTHING if known is None else known.answer for known in conversations]
    for place in np.flatnonzero(~seen).tolist():
        known = conversations[place]
        if known is not None and known.answer.initiator is not None:
            turned = known.turned ^ (known.answer.initiator != "client")
            sides[place], seen[place] = turned, True
    number = (rows["meta"] >> 48).astype(np.uint8)
    ends = _ends(rows, number)
    every = np.arange(len(rows))
    client, server = (every, sides), (every, 1 - sides)
    packets, flags = rows["packets"], rows["flags"].astype(np.int64)
    kinds = flags[client] | flags[server] << 8
    kinds |= (packets[client] > 0).astype(np.int64) << 16
    kinds |= (packets[server] > 0).astype(np.int64) << 17
    vlan, tunnel = _wrapping(rows["meta"], sides, paths)
    return _flows(
        ends[client].tolist(),
        ends[server].tolist(),
        _NAMES[number].tolist(),
        rows["first"].tolist(),
        rows["last"].tolist(),
        *(rows[name][end].tolist() for name in _COUNTS for end in (client, server)),
        map(_state_of, kinds.tolist()),
        [answer.application for answer in answers],
        _SEEN[seen.astype(np.int64)].tolist(),
        [answer.encryption for answer in answers],
        vlan,
        tunnel,
    )


def _wrapping(
    metas: Words, sides: Ints, paths: Paths
) -> tuple[list[tuple[int, ...]], list[tuple[Tunnel, ...]]]:
    """The tags and tunnels that were around each flow."""
    vlan: list[tuple[int, ...]] = [()] * len(metas)
    tunnel: list[tuple[Tunnel, ...]] = [()] * len(metas)
    wrapped = np.flatnonzero(metas & _WRAPPED)
    each = (wrapped, metas[wrapped] & _WRAPPED, sides[wrapped])
    for place, meta, side in zip(*(column.tolist() for column in each), strict=True):
        vlan[place] = paths.vlan(meta)
        tunnel[place] = paths.tunnel(meta, client_is_low=not side)
    return vlan, tunnel


def _flows(*columns: Iterable[Any]) -> list[Flow]:
    """Flows of which the columns are the first fields."""
    made, new = [], object.__new__
    for row in zip(*columns, strict=True):
        flow = new(_OPEN_FLOW)
        (
            flow.client,
            flow.server,
            flow.protocol,
            flow.first_seen,
            flow.last_seen,
            flow.client_packets,
            flow.server_packets,
            flow.client_bytes,
            flow.server_bytes,
            flow.client_payload_bytes,
            flow.server_payload_bytes,
            flow.state,
            flow.application,
            flow.direction,
            flow.encryption,
            flow.vlan,
            flow.tunnel,
        ) = row
        (
            flow.connections,
            flow.reporter,
            flow.host,
            flow.original,
            flow.verdict,
            flow.staged,
            flow.link,
        ) = _LIVE_FLOW
        flow.__class__ = Flow
        made.append(flow)
    return made


def _clients(rows: Rows) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Which end (0 low, 1 high) is the client, and whether that was seen or is a guess.

    It is who sent the SYN; else who received an answer to one; else who asked an echo or opened
    an association; else who sent the first packet, and that is a guess.
    """
    side = rows["first_from"].astype(np.int64)
    seen = np.zeros(len(rows), dtype=bool)
    for mark, server in ((odd.OPENS, False), (odd.SYNACK, True)):
        marked = (rows["flags"] & mark) != 0
        one = marked[:, 0] != marked[:, 1]
        np.copyto(side, marked[:, 0] if server else marked[:, 1], where=one)
        seen |= one
    opened = rows["opener"] >= 0
    np.copyto(side, rows["opener"], where=opened)
    return side, seen | opened


def _ends(rows: Rows, number: npt.NDArray[np.uint8]) -> npt.NDArray[np.object_]:
    """The endpoints of each row, low and high; one object for those of a batch that are equal."""
    ports = np.empty((len(rows), 2), dtype=np.int64)
    for side, shift in enumerate((16, 0)):
        ports[:, side] = rows["ports"] >> shift & 0xFFFF
    # Both zero: fragments whose first one was not seen.
    portless = ~_PORTED[number] | (rows["ports"] == 0)
    ports[portless] = _PORTLESS
    ends = np.empty((len(rows), 2), dtype=object)
    four = rows["meta"] >> 56 == 4
    low, high = rows["low_1"][four], rows["high_1"][four]
    words = np.stack([low, high], axis=1).astype(np.int64) << 17 | ports[four]
    different, place = np.unique(words, return_inverse=True)
    octets = (different >> 17).astype(">u4").view(np.uint8).reshape(-1, 4)
    texts = map(".".join, zip(*_OCTETS[octets.T].tolist(), strict=True))
    made = _endpoints(texts, _numbers(different & 0x1FFFF))
    objects = np.fromiter(made, dtype=object, count=len(made))
    ends[four] = objects[place.reshape(words.shape)]
    for side, name in enumerate(("low", "high")):
        halves = np.stack([rows[f"{name}_{half}"][~four] for half in (0, 1)], axis=1)
        texts = map(_address, halves.astype(">u8").view("V16").ravel().tolist())
        ends[~four, side] = _endpoints(texts, _numbers(ports[~four, side]))
    return ends


def _endpoints(texts: Iterable[str], numbers: Iterable[int | None]) -> list[Endpoint]:
    made, new = [], object.__new__
    for text, number in zip(texts, numbers, strict=True):
        end = new(_OPEN_ENDPOINT)
        end.address, end.port = text, number
        end.workload, end.process, end.name, end.named_by = _LIVE_ENDPOINT
        end.__class__ = Endpoint
        made.append(end)
    return made


def _numbers(ports: Ints) -> list[int | None]:
    numbers: list[int | None] = ports.tolist()
    for place in np.flatnonzero(ports == _PORTLESS).tolist():
        numbers[place] = None
    return numbers


def _address(packed: bytes) -> str:
    """RFC 5952; the C library alone writes dots where an IPv4 address is within."""
    text = inet_ntop(AF_INET6, packed)
    return str(IPv6Address(packed)) if "." in text else text


@lru_cache(maxsize=4096)
def _state_of(kind: int) -> str:
    return state(kind & 0xFF, kind >> 8 & 0xFF, bool(kind >> 16 & 1), bool(kind >> 17 & 1))


def state(client: int, server: int, client_sent: bool, server_sent: bool) -> str:
    """How a connection went, by the union of the flags that each end sent (RFC 9293).

    `refused`: RST in answer to the SYN. `reset`: ended by RST, unless both ends had said FIN.
    `unanswered`: the handshake was left open. `one-way`: only one end was ever seen.
    """
    opened, answered = client & odd.SYN, server & odd.SYNACK
    if opened and not answered and server & odd.RST:
        return "refused"
    if opened and not server_sent:
        return "unanswered"
    if not client_sent or not server_sent:
        return "one-way"
    if (client | server) & odd.RST and not (client & server & odd.FIN):
        return "reset"
    if opened and answered and not client & odd.ACK:
        return "unanswered"
    return "established"

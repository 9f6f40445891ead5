"""Connections in the words of the model, each with what its bytes proved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from socket import inet_ntoa
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.capture.files import odd
from netwatch.capture.files.frames import Ints
from netwatch.capture.files.paths import Paths
from netwatch.capture.files.payloads import Conversation
from netwatch.capture.files.rows import Rows
from netwatch.dissect.answer import Classified
from netwatch.model.flow import Endpoint, Flow

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
_NAMES = [PROTOCOLS.get(number) or str(number) for number in range(256)]
_PORTED = np.zeros(256, dtype=bool)
_PORTED[[odd.TCP, odd.UDP, odd.DCCP, odd.SCTP, odd.UDPLITE]] = True
_NOTHING = Classified()
# Rows that are turned into plain Python numbers at a time.
_BATCH = 1 << 14


def _open(kind: type) -> Callable[..., Any]:
    """A class of the same slots whose objects are not frozen yet.

    A frozen object sets each field through a function call; making it open and closing it
    afterwards (`__class__`) takes a fifth of the time, which was half of what a flow costs.
    """
    return make_dataclass(
        kind.__name__,
        [
            (each.name, each.type)
            if each.default is MISSING
            else (each.name, each.type, field(default=each.default))
            for each in fields(kind)
        ],
        slots=True,
        eq=False,
    )


_OPEN_FLOW, _OPEN_ENDPOINT = _open(Flow), _open(Endpoint)


def flows(
    rows: Rows, conversations: Sequence[Conversation | None], paths: Paths
) -> Iterator[Flow]:
    """Rows of `rows.ROW` as flows; `conversations` has one per row, None if it said nothing."""
    for begin in range(0, len(rows), _BATCH):
        part = slice(begin, begin + _BATCH)
        yield from _batch(rows[part], conversations[part], paths)


def _batch(
    rows: Rows, conversations: Sequence[Conversation | None], paths: Paths
) -> Iterator[Flow]:
    sides, seen = _clients(rows)
    number = (rows["meta"] >> 48).astype(np.uint8)
    wrapped = (rows["meta"] & 0xFFFFFFFFFFFF) != 0
    columns = (
        conversations,
        sides.tolist(),
        seen.tolist(),
        zip(_ends(rows, number, "low", 16), _ends(rows, number, "high", 0), strict=True),
        number.tolist(),
        zip(rows["first"].tolist(), rows["last"].tolist(), strict=True),
        *(rows[name].tolist() for name in ("packets", "bytes", "payload", "flags")),
        np.where(wrapped, rows["meta"], 0).tolist(),
    )
    for known, side, sure, ends, protocol, times, packets, octets, payload, flags, meta in zip(
        *columns, strict=True
    ):
        answer = _NOTHING
        if known is not None:
            answer = known.answer
            if not sure and answer.initiator is not None:
                side, sure = int(known.turned ^ (answer.initiator != "client")), True
        other = 1 - side
        # By position: with names, making flows takes a third longer.
        flow = _OPEN_FLOW(
            ends[side],
            ends[other],
            _NAMES[protocol],
            times[0],
            times[1],
            packets[side],
            packets[other],
            octets[side],
            octets[other],
            payload[side],
            payload[other],
            state(flags[side], flags[other], packets[side] > 0, packets[other] > 0),
            answer.application,
            "seen" if sure else "guessed",
            answer.encryption,
            paths.vlan(meta) if meta else (),
            paths.tunnel(meta, client_is_low=not side) if meta >> 32 else (),
        )
        flow.__class__ = Flow
        yield flow


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


def _ends(rows: Rows, number: npt.NDArray[np.uint8], name: str, shift: int) -> list[Endpoint]:
    """The endpoints of one side."""
    ports = (rows["ports"] >> shift & 0xFFFF).astype(object)
    # Both zero: fragments whose first one was not seen.
    ports[~_PORTED[number] | (rows["ports"] == 0)] = None
    packed = rows[f"{name}_1"].astype(">u4").tobytes()
    texts = [inet_ntoa(packed[at : at + 4]) for at in range(0, len(packed), 4)]
    six = np.flatnonzero(rows["meta"] >> 56 == 6)
    halves = (rows[f"{name}_0"][six].tolist(), rows[f"{name}_1"][six].tolist())
    for place, upper, lower in zip(six.tolist(), *halves, strict=True):
        texts[place] = _address(upper, lower)
    ends = [_OPEN_ENDPOINT(*each) for each in zip(texts, ports.tolist(), strict=True)]
    for end in ends:
        end.__class__ = Endpoint
    return ends


@lru_cache(maxsize=8192)
def _address(upper: int, lower: int) -> str:
    return str(IPv6Address(upper << 64 | lower))


@lru_cache(maxsize=4096)
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

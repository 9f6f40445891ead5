"""One connection's row, and what its bytes proved, in the words of the model."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any

from netwatch.capture.files import odd
from netwatch.capture.files.payloads import Conversation
from netwatch.dissect.conversation import Classified
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
_PORTED = frozenset({odd.TCP, odd.UDP, odd.DCCP, odd.SCTP, odd.UDPLITE})
_NOTHING = Classified()


def flow(row: tuple[Any, ...], conversation: Conversation | None) -> Flow:
    """A row of `rows.ROW` as a tuple, and its conversation if it carried payload."""
    (_, low_0, low_1, high_0, high_1, ports, meta, packets, octets, payload) = row[:10]
    (first, last, _, _, flags, opener, first_from) = row[10:]
    version, protocol = meta >> 56, meta >> 48 & 0xFF
    answer = conversation.answer if conversation is not None else _NOTHING
    side, seen = client_side(opener, flags, first_from, conversation)
    numbers = _ports(protocol, ports)
    ends = (
        Endpoint(_address(version, low_0, low_1), numbers[0]),
        Endpoint(_address(version, high_0, high_1), numbers[1]),
    )
    other = 1 - side
    return Flow(
        client=ends[side],
        server=ends[other],
        protocol=PROTOCOLS.get(protocol) or str(protocol),
        first_seen=first,
        last_seen=last,
        client_packets=packets[side],
        server_packets=packets[other],
        client_bytes=octets[side],
        server_bytes=octets[other],
        client_payload_bytes=payload[side],
        server_payload_bytes=payload[other],
        state=state(flags[side], flags[other], packets[side], packets[other]),
        application=answer.application,
        direction="seen" if seen else "guessed",
        encryption=answer.encryption,
        vlan=_vlan(meta),
    )


def client_side(
    opener: int, flags: tuple[int, int], first_from: int, conversation: Conversation | None
) -> tuple[int, bool]:
    """Which end (0 low, 1 high) is the client, and whether that was seen or is a guess."""
    if opener >= 0:
        return opener, True
    for mark, server in ((odd.SYNACK, True), (odd.OPENS, False)):
        marked = flags[0] & mark, flags[1] & mark
        if bool(marked[0]) != bool(marked[1]):
            return int(bool(marked[0]) if server else bool(marked[1])), True
    if conversation is not None and conversation.answer.initiator is not None:
        given = int(conversation.turned)
        return (given if conversation.answer.initiator == "client" else 1 - given), True
    return first_from, False


def state(client: int, server: int, client_packets: int, server_packets: int) -> str:
    """How a connection went, by the union of the flags that each end sent (RFC 9293).

    `refused`: RST in answer to the SYN. `reset`: ended by RST, unless both ends had said FIN.
    `unanswered`: the handshake was left open. `one-way`: only one end was ever seen.
    """
    opened, answered = client & odd.SYN, server & odd.SYNACK
    if opened and not answered and server & odd.RST:
        return "refused"
    if opened and not server_packets:
        return "unanswered"
    if not client_packets or not server_packets:
        return "one-way"
    if (client | server) & odd.RST and not (client & server & odd.FIN):
        return "reset"
    if opened and answered and not client & odd.ACK:
        return "unanswered"
    return "established"


def _ports(protocol: int, ports: int) -> tuple[int | None, int | None]:
    # Both zero: fragments whose first one was not seen.
    if protocol not in _PORTED or not ports:
        return None, None
    return ports >> 16, ports & 0xFFFF


def _vlan(meta: int) -> tuple[int, ...]:
    tags = meta >> 24 & 0xFF
    if not tags:
        return ()
    return (meta & 0xFFF,) if tags == 1 else (meta >> 12 & 0xFFF, meta & 0xFFF)


@lru_cache(maxsize=65_536)
def _address(version: int, upper: int, lower: int) -> str:
    if version == 4:
        return f"{lower >> 24 & 255}.{lower >> 16 & 255}.{lower >> 8 & 255}.{lower & 255}"
    return str(IPv6Address(upper << 64 | lower))

"""Sessions that began before conntrack looked: found in the workloads' sockets, made known to it.

conntrack tracks only where some rule needs it. At the first activation it has met none of the live
sessions: the next packet of TCP would be NEW without SYN, and dropped between isolated ends; an
answer in UDP would be judged as a call of the server's. Those that the rules permit are entered
beforehand as established, of UDP those with a connected socket (a window that nobody saw is not
checked: IP_CT_TCP_FLAG_BE_LIBERAL).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from netwatch.enforce import netlink, sockdiag
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.walk import DENY, Packet, Walker
from netwatch.kernel.namespaces import NamespaceMissing, inside, path_of_pid
from netwatch.model.workload import Workload

NEW, TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, TIMEOUT = 0, 1, 2, 3, 4, 7
SEEN = 0x2 | 0x4 | 0x8  # IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
LIBERAL = 0x08
TRACKED_ESTABLISHED = 3  # TCP_CONNTRACK_ESTABLISHED
# Defaults of nf_conntrack_tcp_timeout_established and nf_conntrack_udp_timeout_stream.
LIFETIME_S = {"tcp": 432000, "udp": 120}


class Talk(NamedTuple):
    """A session with its ends told apart."""

    client: str
    client_port: int
    server: str
    port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.client} -> {self.server} {self.protocol}/{self.port}"

    @property
    def turned(self) -> Talk:
        """The same, if it was the other end that began it."""
        return Talk(self.server, self.port, self.client, self.client_port, self.protocol)


def talks(workloads: Iterable[Workload]) -> set[Talk]:
    """The live sessions of these workloads that have an end in another namespace."""
    found: set[Talk] = set()
    for workload in workloads:
        if workload.pid is None or workload.host_network:
            continue
        with suppress(NamespaceMissing):  # it ended meanwhile, and its sessions with it
            found |= inside(path_of_pid(workload.pid), _talks)
    return found


def _talks() -> set[Talk]:
    found = set()
    for protocol, waiting in sockdiag.WAITING.items():
        served = {each.port for each, _ in sockdiag.sockets(protocol, 1 << waiting)}
        for each, _ in sockdiag.sockets(protocol, 1 << sockdiag.ESTABLISHED):
            ends = each.ends
            if each.local == each.remote or ip_address(ends[2]).is_loopback:
                continue
            found.add(Talk(*(ends[2:] + ends[:2] if each.port in served else ends), protocol))
    return found


def permitted(ruleset: Ruleset, found: Iterable[Talk], host: Collection[str]) -> list[Talk]:
    """Those that the rules would let begin."""
    walker = Walker(ruleset)
    return [talk for talk in sorted(found) if walker.verdict(_packet(talk, host)) != DENY]


def _packet(talk: Talk, host: Collection[str]) -> Packet:
    hook = "NW-OUT" if talk.client in host else "NW-IN" if talk.server in host else "NW-FWD"
    return Packet(hook, talk.client, talk.server, talk.protocol, talk.port)


def adopt(talk: Talk) -> None:
    """Enter the session as established; one that conntrack knows already stays as it is."""
    family = socket.AF_INET if ip_address(talk.client).version == 4 else socket.AF_INET6
    there = _tuple(family, talk)
    body = b"".join(
        (
            netlink.nested(TUPLE_ORIG, there),
            netlink.nested(TUPLE_REPLY, _tuple(family, talk.turned)),
            netlink.attribute(STATUS, struct.pack("!I", SEEN)),
            _tcp_state() if talk.protocol == "tcp" else b"",
            netlink.attribute(TIMEOUT, struct.pack("!I", LIFETIME_S[talk.protocol])),
        )
    )
    flags = netlink.ACK | netlink.CREATE | netlink.EXCL
    netlink.send(netlink.message(netlink.CONNTRACK << 8 | NEW, flags, family, body))


def _tcp_state() -> bytes:
    flags = bytes([LIBERAL, LIBERAL])
    state = (
        netlink.attribute(1, bytes([TRACKED_ESTABLISHED])),
        netlink.attribute(4, flags),
        netlink.attribute(5, flags),
    )
    return netlink.nested(PROTOINFO, netlink.nested(1, *state))


def _tuple(family: int, talk: Talk) -> bytes:
    first = 1 if family == socket.AF_INET else 3  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
    addresses = netlink.nested(
        1,
        netlink.attribute(first, socket.inet_pton(family, talk.client)),
        netlink.attribute(first + 1, socket.inet_pton(family, talk.server)),
    )
    ports = netlink.nested(
        2,
        netlink.attribute(1, bytes([sockdiag.NUMBERS[talk.protocol]])),
        netlink.attribute(2, struct.pack("!H", talk.client_port)),
        netlink.attribute(3, struct.pack("!H", talk.port)),
    )
    return addresses + ports


def end(doomed: Collection[Talk], workloads: Iterable[Workload]) -> int:
    """End the sockets of these sessions inside the workloads that hold them; how many.

    Both sides learn of it at once (sock_diag's SOCK_DESTROY, tcp_abort); where the kernel can not
    do that, they find out when nothing gets through.
    """
    ended = 0
    for workload in workloads if doomed else ():
        here = {*workload.addresses}
        own = {talk for talk in doomed if talk.client in here or talk.server in here}
        if own and workload.pid is not None and not workload.host_network:
            with suppress(NamespaceMissing):  # it ended meanwhile, and its sessions with it
                ended += inside(path_of_pid(workload.pid), partial(_destroy, own))
    return ended


def _destroy(doomed: Collection[Talk]) -> int:
    """The sockets of these sessions in the calling thread's network namespace."""
    ended = 0
    for protocol in sorted({talk.protocol for talk in doomed} & sockdiag.WAITING.keys()):
        there = {tuple(talk[:4]) for talk in doomed if talk.protocol == protocol}
        for each, only in sockdiag.sockets(protocol, 1 << sockdiag.ESTABLISHED):
            ends = each.ends
            if ends in there or ends[2:] + ends[:2] in there:
                ended += sockdiag.destroy(only)
    return ended

"""What rtnetlink says of this host: its links, its addresses, and the way out.

A container's host-side link is found by the MAC address that the runtime gives to the other end.
That address is read from here, through the peer's namespace id, so nothing is entered (no
CAP_SYS_ADMIN, no process id) and the link is known before the container's process exists.

The messages are packed by hand (linux/rtnetlink.h, linux/if_link.h): at every container event a
library would cost more than all other work.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from netwatch.discover.container import Plug
from netwatch.model.snapshot import Network
from netwatch.model.workload import Interface

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINK, IFLA_MASTER = 1, 3, 5, 10
RTMGRP_LINK = 1
IFLA_LINK_NETNSID, IFLA_TARGET_NETNSID = 37, 46  # the latter since Linux 4.15
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_SRC, RTA_IIF, RTA_OIF, RTA_TABLE = 1, 2, 3, 4, 15
RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK = 254, 1, 253
ATTRIBUTE_TYPE = 0x3FFF  # without the flags NESTED and NET_BYTEORDER
RECEIVE = 1 << 16
DEADLINE_S = 2.0

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Link:
    """One interface; `peer` is the other end of a veth, in the namespace `peer_namespace`."""

    index: int
    name: str
    mac: str
    bridge: int | None
    peer: int | None
    peer_namespace: int | None


def ends_of(wanted: Collection[Plug]) -> dict[Plug, Interface]:
    """The host-side links whose other end is plugged in there, as far as they exist.

    The newest links are asked first, so one new container costs one question however many run.
    """
    ends: dict[Plug, Interface] = {}
    with _open() as route:
        found = {link.index: link for link in _links(route)}
        bridges = {bridge for bridge, _ in wanted}
        for link in sorted(found.values(), key=lambda link: -link.index):
            bridge = found.get(link.bridge or 0)
            if bridge is None or bridge.name not in bridges or link.peer is None:
                continue
            if len(ends) == len(wanted):
                break
            peer = _peer(route, link, found)
            if peer is not None and (bridge.name, peer.mac) in wanted:
                ends[bridge.name, peer.mac] = Interface(link.name, link.index, bridge.name)
    return ends


def link_changes() -> socket.socket:
    """A socket that becomes readable when a link of this namespace changes; see `await_change`."""
    changes = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    changes.bind((0, RTMGRP_LINK))
    return changes


def await_change(changes: socket.socket, within_s: float) -> bool:
    """Whether a link changed within that time; what piled up counts as one change."""
    if not select.select([changes], [], [], within_s)[0]:
        return False
    try:
        while changes.recv(RECEIVE, socket.MSG_DONTWAIT):
            continue
    except OSError:  # empty again, or ENOBUFS: some were lost, which is a change too
        return True
    return True


def host_addresses() -> tuple[str, ...]:
    """Every address of this host but loopback and link-local ones, as text, sorted."""
    return tuple(sorted({address for address, scope, _ in _addresses() if scope < RT_SCOPE_LINK}))


def interface_with(address: str) -> str | None:
    """The interface that has this address, or None."""
    for known, _, index in _addresses():
        if known == address:
            with suppress(OSError):  # gone meanwhile
                return socket.if_indextoname(index)
    return None


def default_uplinks() -> tuple[str, ...]:
    """The interfaces of the default routes of the main table, of both families, sorted."""
    with _open() as route:
        names = {link.index: link.name for link in _links(route)}
        found = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for body in ask(route, RTM_GETROUTE, request, RTM_NEWROUTE):
                _, bits, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
                attributes = attributes_of(body, _ROUTE.size)
                out = attributes.get(RTA_OIF)
                if bits == 0 and table == RT_TABLE_MAIN and kind == RTN_UNICAST and out:
                    found.add(names.get(int.from_bytes(out, "little"), ""))
    return tuple(sorted(found - {"", "lo"}))


def carriers(networks: Iterable[Network], uplinks: Collection[str]) -> tuple[str, ...]:
    """The parents of macvlan networks that are to be watched beside the uplinks, sorted.

    What one neighbour on a parent sends another comes in by the parent (macvlan_queue_xmit,
    drivers/net/macvlan.c). A parent that lies on an uplink, as a VLAN does, is left out: what
    comes from outside passes both, and would count twice.
    """
    parents = {network.parent for network in networks if network.parent} - {*uplinks}
    if not parents:
        return ()
    with _open() as route:
        links = {link.index: link for link in _links(route)}
    return tuple(
        sorted(
            link.name
            for link in links.values()
            if link.name in parents and not below(link, links) & {*uplinks}
        )
    )


def below(link: Link, links: Mapping[int, Link]) -> set[str]:
    """The interfaces of this namespace that carry this one's packets."""
    found: set[str] = set()
    while link.peer is not None and link.peer_namespace is None and link.peer in links:
        link = links[link.peer]
        if link.name in found:  # the two ends of a veth
            break
        found.add(link.name)
    return found


def name_of_link(index: int) -> str | None:
    """The name of a link of this namespace, or None: it is gone."""
    with suppress(OSError):
        return socket.if_indextoname(index)
    return None


def names_of_links() -> frozenset[str]:
    """The names of all links of this namespace."""
    return frozenset(name for _, name in socket.if_nameindex())


def way_out(source: str, destination: str, *, bridge: str | None = None) -> str | None:
    """The interface through which packets would leave, by the routes of this moment, or None.

    `bridge` is where a workload's packets come in; without it, `source` is an address of the host
    itself. Asked of the kernel, so that rules and tables count; marks of a firewall do not.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    try:
        ends = [socket.inet_pton(family, text) for text in (destination, source)]
        inward = socket.if_nametoindex(bridge) if bridge else 0
    except OSError:
        return None
    length = 8 * len(ends[0])
    request = _ROUTE.pack(family, length, length, 0, 0, 0, 0, 0, 0)
    for kind, value in ((RTA_DST, ends[0]), (RTA_SRC, ends[1])):
        request += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value
    if inward:
        request += _ATTRIBUTE.pack(8, RTA_IIF) + inward.to_bytes(4, "little")
    try:
        with _open() as route:
            for body in ask(route, RTM_GETROUTE, request, None):
                out = attributes_of(body, _ROUTE.size).get(RTA_OIF)
                return socket.if_indextoname(int.from_bytes(out, "little")) if out else None
    except OSError:  # no route, or the link went meanwhile
        return None
    return None


def _open() -> socket.socket:
    route = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    route.settimeout(DEADLINE_S)
    return route


def _links(route: socket.socket) -> Iterator[Link]:
    request = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for body in ask(route, RTM_GETLINK, request, RTM_NEWLINK):
        yield _link(body)


def _addresses() -> list[tuple[str, int, int]]:
    """Address, scope and interface index of each address of this namespace."""
    found = []
    with _open() as route:
        request = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        for body in ask(route, RTM_GETADDR, request, RTM_NEWADDR):
            family, _, _, scope, index = _ADDRESS.unpack_from(body)
            attributes = attributes_of(body, _ADDRESS.size)
            raw = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
            if raw and family in (socket.AF_INET, socket.AF_INET6):
                found.append((socket.inet_ntop(family, raw), scope, index))
    return found


def _peer(route: socket.socket, link: Link, here: dict[int, Link]) -> Link | None:
    """The other end of a veth, or None where it is gone or the kernel does not say."""
    if link.peer_namespace is None:
        return here.get(link.peer or 0)
    target = struct.pack("=HHi", 8, IFLA_TARGET_NETNSID, link.peer_namespace)
    request = _LINK.pack(socket.AF_UNSPEC, 0, link.peer, 0, 0) + target
    try:
        return next((_link(body) for body in ask(route, RTM_GETLINK, request, None)), None)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP):
            return None
        raise


def _link(body: bytes) -> Link:
    _, _, index, _, _ = _LINK.unpack_from(body)
    attributes = attributes_of(body, _LINK.size)
    return Link(
        index,
        attributes.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        attributes.get(IFLA_ADDRESS, b"").hex(":"),
        _number(attributes.get(IFLA_MASTER)),
        _number(attributes.get(IFLA_LINK)),
        _number(attributes.get(IFLA_LINK_NETNSID)),
    )


def _number(raw: bytes | None) -> int | None:
    return None if raw is None else int(struct.unpack("=i", raw)[0])


def attributes_of(body: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from `offset` on, by type; of two of one type the last (linux/netlink.h)."""
    found = {}
    while offset + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, offset)
        if size < _ATTRIBUTE.size:
            break
        found[kind & ATTRIBUTE_TYPE] = body[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3
    return found


def ask(route: socket.socket, kind: int, request: bytes, dumped: int | None) -> Iterator[bytes]:
    """The bodies that answer a request; `dumped` None asks for one object. Raises OSError."""
    flags = NLM_F_REQUEST | (NLM_F_DUMP if dumped is not None else 0)
    route.send(_HEADER.pack(_HEADER.size + len(request), kind, flags, 0, 0) + request)
    while True:
        data = route.recv(RECEIVE)
        offset = 0
        while offset + _HEADER.size <= len(data):
            size, got, _, _, _ = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + size]
            if got == NLMSG_DONE:
                return
            if got == NLMSG_ERROR:
                code = -struct.unpack_from("=i", body)[0]
                raise OSError(code, "netlink refused a request")
            yield body
            offset += (size + 3) & ~3
        if dumped is None:
            return

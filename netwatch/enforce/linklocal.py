"""Link-local addresses of workloads: the kernel gives them, and no runtime tells of them.

So are hardware addresses, where the runtime did not tell. They are read through the id that a
veth has for its peer's namespace, so nothing is entered and no process is needed
(linux/rtnetlink.h). The address that a link gets from its MAC address (RFC 4291, appendix A)
counts from the start, before the link is up.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

from netwatch.enforce.netlink import attribute, attributes, connect
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload

_GET_LINK, _GET_ADDRESS = 18, 22
_MAC, _NAME, _PEER, _NAMESPACE, _TARGET = 1, 3, 5, 37, 46  # IFLA_*
_ADDRESS, _ADDRESS_TARGET = 1, 10  # IFA_ADDRESS, IFA_TARGET_NETNSID (Linux 4.20)
_LINK, _IFADDR = struct.Struct("=BxHiII"), struct.Struct("=BBBBI")
_REQUEST, _DUMP, _ERROR, _DONE = 1, 0x300, 2, 3
_SOL_NETLINK, _STRICT = 270, 12  # NETLINK_GET_STRICT_CHK: else the kernel overlooks _TARGET
_SCOPE_LINK = 253
RECEIVE = 1 << 16


def with_link_local(snapshot: Snapshot) -> Snapshot:
    """The snapshot with the link-local and hardware addresses of the workloads on its bridges.

    An address that two ends of links claim belongs to neither.
    """
    wanted = {link.name for w in snapshot.workloads for link in w.interfaces if link.bridge}
    found, macs = _addresses_of(wanted) if wanted else ({}, {})
    claims = Counter(address for addresses in found.values() for address in addresses)
    faces = Counter(macs.values())
    return replace(
        snapshot,
        workloads=tuple(
            replace(
                w,
                interfaces=tuple(
                    link
                    if link.mac or faces[macs.get(link.name, "")] != 1
                    else replace(link, mac=macs[link.name])
                    for link in w.interfaces
                ),
                link_local=tuple(
                    sorted(
                        address
                        for link in w.interfaces
                        for address in found.get(link.name, ())
                        if claims[address] == 1
                    )
                )
                or _told_by_process(w),
            )
            for w in snapshot.workloads
        ),
    )


def _told_by_process(workload: Workload) -> tuple[str, ...]:
    """Those of a workload without an end on a bridge (macvlan), as its process sees them."""
    if workload.pid is None or workload.host_network or any(i.bridge for i in workload.interfaces):
        return ()
    place = Path(f"/proc/{workload.pid}")
    try:
        if (place / "ns/net").stat().st_ino == Path("/proc/thread-self/ns/net").stat().st_ino:
            return ()
        lines = (place / "net/if_inet6").read_text().splitlines()
    except OSError:  # it ended meanwhile, or there is no IPv6
        return ()
    fields = (line.split() for line in lines)
    return tuple(
        sorted(str(IPv6Address(bytes.fromhex(each[0]))) for each in fields if each[3] == "20")
    )


def _addresses_of(wanted: set[str]) -> tuple[dict[str, set[str]], dict[str, str]]:
    """By name of the host's end of a link: link-local and hardware addresses of its other end."""
    found: dict[str, set[str]] = {}
    macs: dict[str, str] = {}
    there: dict[int, dict[int, set[str]]] = {}
    with connect(socket.NETLINK_ROUTE) as route:
        route.setsockopt(_SOL_NETLINK, _STRICT, 1)
        for body in list(_ask(route, _GET_LINK, _LINK.pack(0, 0, 0, 0, 0), _DUMP)):
            link = attributes(body[_LINK.size :])
            name = link.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
            if name not in wanted or _PEER not in link or _NAMESPACE not in link:
                continue
            index, namespace = _number(link[_PEER]), _number(link[_NAMESPACE])
            if namespace not in there:
                there[namespace] = _dumped(route, namespace)
            found[name] = set(there[namespace].get(index, ()))
            mac = _mac(route, index, namespace)
            if len(mac) == 6:
                macs[name] = mac.hex(":")
                found[name].add(_made_from(mac))
    return found, macs


def _dumped(route: socket.socket, namespace: int) -> dict[int, set[str]]:
    """The link-local addresses of a namespace, by index of the interface."""
    found: dict[int, set[str]] = defaultdict(set)
    request = _IFADDR.pack(socket.AF_INET6, 0, 0, 0, 0)
    request += attribute(_ADDRESS_TARGET, struct.pack("=i", namespace))
    with suppress(OSError):  # gone meanwhile, or a kernel that does not look there
        for body in _ask(route, _GET_ADDRESS, request, _DUMP):
            _, _, _, scope, index = _IFADDR.unpack_from(body)
            raw = attributes(body[_IFADDR.size :]).get(_ADDRESS, b"")
            if scope == _SCOPE_LINK and len(raw) == 16:
                found[index].add(str(IPv6Address(raw)))
    return found


def _mac(route: socket.socket, index: int, namespace: int) -> bytes:
    request = _LINK.pack(0, 0, index, 0, 0) + attribute(_TARGET, struct.pack("=i", namespace))
    with suppress(OSError):
        for body in _ask(route, _GET_LINK, request, 0):
            return attributes(body[_LINK.size :]).get(_MAC, b"")
    return b""


def _made_from(mac: bytes) -> str:
    """The address that the kernel makes from a link's MAC address."""
    made = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + made))


def _number(raw: bytes) -> int:
    return int(struct.unpack("=i", raw)[0])


def _ask(route: socket.socket, kind: int, request: bytes, flags: int) -> Iterator[bytes]:
    """The bodies that answer; raises OSError where the kernel refuses."""
    route.send(struct.pack("=IHHII", 16 + len(request), kind, flags | _REQUEST, 1, 0) + request)
    while True:
        data, at = route.recv(RECEIVE), 0
        while at + 16 <= len(data):
            size, found = struct.unpack_from("=IH", data, at)
            if found == _DONE:
                return
            if found == _ERROR:
                raise OSError(-struct.unpack_from("=i", data, at + 16)[0], "refused")
            yield data[at + 16 : at + size]
            at += (size + 3) & ~3
        if not flags & _DUMP:
            return

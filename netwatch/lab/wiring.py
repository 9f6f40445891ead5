"""Turns a plan into bridges, links, addresses and routes, by netlink inside each namespace.

    workload eth0 -- vethN [host: br0, routes] eth0 -- hostN [underlay: ux0, routes] -- internet

Every namespace is quiet: no duplicate address detection, no router solicitation, so that IPv6
works at once and the wire carries what the lab file asks for and neighbour discovery, no more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netwatch.kernel import commands
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.lab import nat, netns
from netwatch.lab.plan import (
    BRIDGE,
    INTERNET_NETNS,
    UNDERLAY_NETNS,
    UPLINK,
    Address,
    Network,
    PlacedHost,
    PlacedWorkload,
    Plan,
)
from netwatch.model.errors import NetwatchError

UNDERLAY_BRIDGE = "ux0"
OUTSIDE = "outside"
NODAD = 0x02  # IFA_F_NODAD, linux/if_addr.h
SYSCTL = Path("/proc/sys/net")
QUIET = {
    f"ipv6/conf/{scope}/{name}": "0"
    for scope in ("all", "default")
    for name in ("accept_dad", "dad_transmits", "accept_ra", "autoconf", "router_solicitations")
}
# Tests ask hundreds of times a second and tell a refusal from silence by its ICMP error.
CANDID = {"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0"}
ROUTER = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
}
BRIDGED = {"bridge/bridge-nf-call-iptables": "1", "bridge/bridge-nf-call-ip6tables": "1"}


class WiringFailed(NetwatchError):
    """The kernel refused a part of the lab's network."""

    code = "wiring-failed"


def build(plan: Plan) -> list[str]:
    """Make everything that the plan names; returns what this kernel can not do, in sentences.

    Raises WiringFailed or NamespaceFailed half way: the caller takes down what is there.
    """
    notes = []
    if not (SYSCTL / "bridge").is_dir() and commands.available("modprobe"):
        commands.run(["modprobe", "br_netfilter"])
    if not (SYSCTL / "bridge").is_dir():
        notes.append("br_netfilter is missing: workloads on one bridge can not be kept apart")
    routers = {UNDERLAY_NETNS, *(host.netns for host in plan.hosts)}
    for name in plan.netns:
        netns.create(name)
        # before any interface is there: each copies the defaults when it appears
        inside(path_of_name(name), partial(_prepare, forward=name in routers))
    _at(UNDERLAY_NETNS, partial(_underlay, plan))
    for host in plan.hosts:
        _at(host.netns, partial(_host, plan, host))
        for workload in plan.on(host.name):
            _at(workload.netns, partial(_end, workload.addresses, host.subnets, host.gateways))
        if not host.routed:
            inside(path_of_name(host.netns), partial(nat.apply, host, plan.on(host.name)))
    if plan.lab.internet is not None:
        routers_there = tuple(network[1] for network in plan.outside)
        _at(INTERNET_NETNS, partial(_end, plan.internet, plan.outside, routers_there))
    return notes


def index_of(host: PlacedHost, workloads: Iterable[PlacedWorkload]) -> dict[str, int]:
    """Interface indexes of the host's ends of links, by interface name."""
    names = [workload.interface for workload in workloads]

    def look() -> dict[str, int]:
        with IPRoute() as ip:
            known = {link.get("ifname"): link["index"] for link in ip.get_links()}
        return {name: int(known[name]) for name in names}

    return inside(path_of_name(host.netns), look)


def _at(name: str, work: Callable[[IPRoute], None]) -> None:
    def connect_and_work() -> None:
        with IPRoute() as ip:
            work(ip)

    try:
        inside(path_of_name(name), connect_and_work)
    except NetlinkError as error:
        raise WiringFailed(
            f"the kernel refused a part of {name}: {os.strerror(error.code)}",
            "run as root, on a kernel with bridges and veth",
        ) from None


def _underlay(plan: Plan, ip: IPRoute) -> None:
    bridge = _add_bridge(ip, UNDERLAY_BRIDGE)
    _add_addresses(ip, bridge, plan.router, plan.underlay)
    for host in plan.hosts:
        _add_veth(ip, f"host{host.number}", peer=UPLINK, netns_of_peer=host.netns, bridge=bridge)
        if host.routed:
            for subnet, gateway in zip(host.subnets, host.uplink, strict=True):
                ip.route("add", dst=str(subnet), gateway=str(gateway))
    if plan.lab.internet is not None:
        index = _add_veth(ip, OUTSIDE, peer=UPLINK, netns_of_peer=INTERNET_NETNS)
        _add_addresses(ip, index, [network[1] for network in plan.outside], plan.outside)


def _host(plan: Plan, host: PlacedHost, ip: IPRoute) -> None:
    uplink = _look_up(ip, UPLINK)
    _add_addresses(ip, uplink, host.uplink, plan.underlay)
    for router in plan.router:
        ip.route("add", dst="::/0" if router.version == 6 else "0.0.0.0/0", gateway=str(router))
    for other in plan.hosts:
        if other.routed and other is not host:
            for subnet, gateway in zip(other.subnets, other.uplink, strict=True):
                ip.route("add", dst=str(subnet), gateway=str(gateway))
    bridge = _add_bridge(ip, BRIDGE)
    _add_addresses(ip, bridge, host.gateways, host.subnets)
    for workload in plan.on(host.name):
        _add_veth(ip, workload.interface, peer="eth0", netns_of_peer=workload.netns, bridge=bridge)


def _end(
    addresses: tuple[Address, ...],
    subnets: tuple[Network, ...],
    gateways: tuple[Address, ...],
    ip: IPRoute,
) -> None:
    index = _look_up(ip, "eth0")
    _add_addresses(ip, index, addresses, subnets)
    versions = {address.version for address in addresses}
    for gateway in gateways:
        if gateway.version in versions:
            everything = "::/0" if gateway.version == 6 else "0.0.0.0/0"
            ip.route("add", dst=everything, gateway=str(gateway))


def _prepare(*, forward: bool) -> None:
    values = QUIET | CANDID | (ROUTER | BRIDGED if forward else {})
    for name, value in values.items():
        with contextlib.suppress(FileNotFoundError):  # no IPv6, or no br_netfilter: build says so
            (SYSCTL / name).write_text(value)
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")


def _look_up(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise WiringFailed(f"the interface {name} was made, but is not there")
    return int(found[0])


def _add_bridge(ip: IPRoute, name: str) -> int:
    # snooping would hold back neighbour discovery until a querier appears
    ip.link("add", ifname=name, kind="bridge", br_mcast_snooping=0, state="up")
    return _look_up(ip, name)


def _add_veth(
    ip: IPRoute, name: str, *, peer: str, netns_of_peer: str, bridge: int | None = None
) -> int:
    descriptor = os.open(path_of_name(netns_of_peer), os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = {"ifname": peer, "net_ns_fd": descriptor}
        ip.link("add", ifname=name, kind="veth", peer=there)
    finally:
        os.close(descriptor)
    index = _look_up(ip, name)
    if bridge is not None:
        ip.link("set", index=index, master=bridge)
    ip.link("set", index=index, state="up")
    return index


def _add_addresses(
    ip: IPRoute, index: int, addresses: Iterable[Address], subnets: Iterable[Network]
) -> None:
    ip.link("set", index=index, state="up")
    lengths = {subnet.version: subnet.prefixlen for subnet in subnets}
    for address in addresses:
        options = {"flags": NODAD} if address.version == 6 else {}
        ip.addr(
            "add",
            index=index,
            address=str(address),
            prefixlen=lengths[address.version],
            **options,
        )

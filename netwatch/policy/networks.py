"""Addresses and networks: what a CIDR holds, and what "the internet" is for one fleet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from netwatch.policy.ir import NamePeer, NetworkPeer, World

NOT_INTERNET = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
    "::/96",
    "::ffff:0:0/96",
    "fc00::/7",
    "fe80::/9",
    "ff00::/8",
)
"""RFC 6890: private, shared, loopback, link-local, multicast, reserved. The ranges for
documentation and benchmarks are missing on purpose: labs use them as their internet."""


@lru_cache(maxsize=65536)
def span(network: str) -> tuple[int, int, int]:
    """(IP version, first, last) of a CIDR or of one address; raises ValueError for neither."""
    parsed = ipaddress.ip_network(network, strict=False)
    return parsed.version, int(parsed.network_address), int(parsed.broadcast_address)


def holds(peer: NetworkPeer, address: str) -> bool:
    """Whether the address is in the CIDR and in none of its exceptions."""
    version, number, _ = span(address)
    return _within(number, version, peer.cidr) and not any(
        _within(number, version, inner) for inner in peer.excepts
    )


def _within(number: int, version: int, network: str) -> bool:
    family, first, last = span(network)
    return family == version and first <= number <= last


def stands_for(peer: NamePeer, name: str) -> bool:
    """Whether the peer is this name, or a wildcard that it lies below."""
    if peer.name.startswith("*."):
        return name.endswith(peer.name[1:]) and name != peer.name[1:]
    return name == peer.name


def addresses_of(peer: NamePeer, world: World) -> tuple[str, ...]:
    """Every address that the world knows for the name, or for the names below a wildcard."""
    return tuple(
        address
        for name, addresses in world.names
        if stands_for(peer, name)
        for address in addresses
    )


def known_as(peer: NamePeer, address: str, world: World) -> bool:
    """Whether the world knows this address for the name."""
    spot = span(address)
    return any(span(known) == spot for known in addresses_of(peer, world))


class Outside:
    """What `internet` means in one world; `holds` is the question, `peers` the same as CIDRs."""

    def __init__(self, world: World) -> None:
        self._networks = (*NOT_INTERNET, *world.networks)
        self._addresses = frozenset(
            span(address) for address in (*world.host_addresses, *_of_workloads(world))
        )

    def holds(self, address: str) -> bool:
        """Whether the address is nobody's here and in no network that is not the internet."""
        spot = span(address)
        if spot in self._addresses:
            return False
        return not any(_within(spot[1], spot[0], network) for network in self._networks)

    def peers(self) -> tuple[NetworkPeer, NetworkPeer]:
        """0.0.0.0/0 and ::/0, each less the fewest CIDRs that are not the internet."""
        parsed = [ipaddress.ip_network(network, strict=False) for network in self._networks]
        v4 = [network for network in parsed if isinstance(network, ipaddress.IPv4Network)]
        v6 = [network for network in parsed if isinstance(network, ipaddress.IPv6Network)]
        v4 += [ipaddress.IPv4Network(n) for version, n, _ in self._addresses if version == 4]
        v6 += [ipaddress.IPv6Network(n) for version, n, _ in self._addresses if version == 6]
        return (
            NetworkPeer("0.0.0.0/0", tuple(map(str, ipaddress.collapse_addresses(v4)))),
            NetworkPeer("::/0", tuple(map(str, ipaddress.collapse_addresses(v6)))),
        )


def internet(world: World) -> tuple[NetworkPeer, NetworkPeer]:
    """What an InternetPeer stands for in this world, as two finite networks."""
    return Outside(world).peers()


def _of_workloads(world: World) -> Iterable[str]:
    return (address for workload in world.workloads for address in workload.addresses)

"""What encrypts on the way out of this host, read together: WireGuard and IPsec."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from netwatch.discover.links import way_out
from netwatch.discover.wireguard import wireguard
from netwatch.discover.xfrm import xfrm
from netwatch.graph.protection import link_of
from netwatch.model.link import Links, SecurityAssociation, SecurityPolicy, WireGuard
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Workload

MAX_PAIRS = 50_000  # of addresses that rules may speak of; beyond it nothing more is protected
FOREVER = 1 << 62
Way = Callable[[str, str, str | None], str | None]


def read_links(now: int) -> Links:
    """The tunnels of this network namespace at `now` (ns). What fails is the `problem`."""
    problems: list[str] = []
    interfaces: tuple[WireGuard, ...] = ()
    states: tuple[SecurityAssociation, ...] = ()
    policies: tuple[SecurityPolicy, ...] = ()
    try:
        interfaces = wireguard()
    except (OSError, ValueError) as error:
        problems.append(f"WireGuard can not be read: {error}")
    try:
        states, policies = xfrm()
    except (OSError, struct.error) as error:
        problems.append(f"IPsec can not be read: {error}")
    return Links(interfaces, states, policies, now, "; ".join(problems) or None)


def with_protected(snapshot: Snapshot, links: Links, way: Way | None = None) -> Snapshot:
    """The snapshot with the pairs of addresses that a rule with `link-encrypted` may allow.

    A WireGuard tunnel that rests is one too: it sends nothing before a new handshake, and that
    needs a packet which such a rule would have to let through first.
    """
    if not (links.wireguard or links.policies):
        return snapshot
    pairs: list[tuple[str, str]] = []
    for pair in _protected(snapshot, links, way or by_routes):
        if len(pairs) >= MAX_PAIRS:
            break
        pairs.append(pair)
    return replace(snapshot, protected=tuple(sorted(pairs)))


def bridge_of(workload: Workload, address: str, networks: Mapping[str, Network]) -> str | None:
    """The bridge of this host on which a workload's packets from that address come in."""
    bridged = [i for i in workload.interfaces if i.bridge]
    for interface in bridged:
        network = networks.get(interface.network or "")
        if network and network.holds(address):
            return interface.bridge
    return bridged[0].bridge if bridged else None


def _protected(snapshot: Snapshot, links: Links, way: Way) -> Iterator[tuple[str, str]]:
    plans = {network.name: network for network in snapshot.networks}
    remote = [
        address
        for neighbour in snapshot.neighbours
        for address in (
            *neighbour.addresses,
            *(a for w in neighbour.workloads if neighbour.routed for a in w.addresses),
        )
    ]
    outs: dict[tuple[str | None, str], str | None] = {}
    for workload in snapshot.workloads:
        for local in workload.addresses:
            bridge = bridge_of(workload, local, plans)
            for far in remote:
                if (":" in local) != (":" in far):
                    continue
                if (bridge, far) not in outs:
                    outs[bridge, far] = way(local, far, bridge)
                out = outs[bridge, far]
                link = link_of(links, local, far, out=out, now=links.read, fresh=FOREVER)
                if link.status == "proven":
                    yield local, far


def by_routes(source: str, destination: str, bridge: str | None) -> str | None:
    """`links.way_out` with the bridge by position."""
    return way_out(source, destination, bridge=bridge)

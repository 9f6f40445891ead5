"""How a conversation leaves this host: asked of routes and tunnels, each pair of addresses once.

Where nothing encrypts there is nothing to ask. The answers are kept as long as what was read of
the tunnels, which is a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy.typing as npt

from netwatch.agent.overlays import Wire, link_over, seen_on
from netwatch.discover.tunnels import bridge_of, with_protected
from netwatch.graph.protection import NOTHING, link_of
from netwatch.model.link import Link, Links
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.times import SECOND, passed

READ_EVERY = 5 * SECOND  # a dump of WireGuard and xfrm takes about a millisecond
MAX_PAIRS = 20_000  # of addresses asked within that time; the rest is told as unknown
MAX_ASKED = 512  # routes asked of the kernel in that time: 20 us each, 10 ms in all

WayOut = Callable[[str, str, str | None], str | None]
UNASKED = Link("unknown", reason="too many addresses to ask the way for each")


class Ways:
    """`read` gives the tunnels at a time, `way_out` the interface for source, destination and
    bridge, `interface` the name of an index.
    """

    def __init__(
        self,
        read: Callable[[int], Links],
        way_out: WayOut,
        interface: Callable[[int], str | None],
    ) -> None:
        self._read = read
        self._way_out = way_out
        self._interface = interface
        self._given: Snapshot | None = None
        self._snapshot = Snapshot("")
        self._own: frozenset[str] = frozenset()
        self._bridges: dict[str, str | None] = {}
        self._known: dict[tuple[str, str, int], Link] = {}
        self._asked = 0
        self._wire = Wire()
        self.links = Links()

    def see(self, entries: npt.NDArray[Any], now: int) -> None:
        """Learn from rows of ENTRY what the wire shows of overlays that claim to encrypt."""
        if any(network.encrypted for network in self._snapshot.networks):
            self._wire = seen_on(entries, self._snapshot.addresses, now)

    def look(self, snapshot: Snapshot, now: int) -> Snapshot:
        """Read the tunnels again if it is time; the snapshot with the pairs they protect."""
        if snapshot is self._given and not passed(self.links.read, now, READ_EVERY):
            return self._snapshot
        self.links = self._read(now)
        self._known.clear()
        self._asked = 0
        self._given = snapshot
        self._snapshot = with_protected(snapshot, self.links, self._way_out)
        self._own = _own(snapshot)
        self._bridges = _bridges(snapshot)
        return self._snapshot

    def link(self, local: str, remote: str, arrived: int) -> Link | None:
        """What carries this pair out of the host; None if `remote` is on it too.

        `arrived` is the index of the interface that saw packets of the remote end, or 0.
        """
        if remote in self._own:
            return None
        key = (local, remote, arrived)
        known = self._known.get(key)
        if known is None:
            known = self._ask(*key) if len(self._known) < MAX_PAIRS else UNASKED
            self._known[key] = known
        return known

    def tunnels(self) -> tuple[str, ...]:
        """The interfaces whose inside is to be watched like an uplink."""
        return tuple(each.interface for each in self.links.wireguard)

    def _ask(self, local: str, remote: str, arrived: int) -> Link:
        links, now = self.links, self.links.read
        overlay = _overlay(self._snapshot.networks, local, remote)
        if overlay is not None:
            return self._over(overlay)
        if not (links.wireguard or links.policies or links.problem):
            return NOTHING
        if self._asked >= MAX_ASKED:
            return UNASKED
        self._asked += 1
        out = self._way_out(local, remote, self._bridges.get(local))
        back = self._interface(arrived) if arrived else None
        return link_of(links, local, remote, out=out, now=now, back=back)

    def _over(self, overlay: Network) -> Link:
        networks = [n for n in self._snapshot.networks if n.driver == "overlay"]
        if overlay.encrypted:
            return link_over(overlay, networks, self.links, self._wire)
        if not (self.links.wireguard or self.links.policies):
            return NOTHING
        why = "nobody tells between which hosts it runs"
        return Link("unknown", "overlay", overlay.name, why)


def _own(snapshot: Snapshot) -> frozenset[str]:
    """Every address that is reached without leaving the host."""
    workloads = (a for w in snapshot.workloads for a in w.addresses)
    gateways = (g for network in snapshot.networks for g in network.gateways)
    return frozenset((*snapshot.addresses, *workloads, *gateways, "127.0.0.1", "::1"))


def _bridges(snapshot: Snapshot) -> dict[str, str | None]:
    """The bridge on which packets from each workload's address come in."""
    plans = {network.name: network for network in snapshot.networks}
    return {
        address: bridge_of(workload, address, plans)
        for workload in snapshot.workloads
        for address in workload.addresses
    }


def _overlay(networks: Iterable[Network], local: str, remote: str) -> Network | None:
    """The overlay that both addresses are in."""
    overlays = [network for network in networks if network.driver == "overlay"]
    return next((n for n in overlays if n.holds(local) and n.holds(remote)), None)

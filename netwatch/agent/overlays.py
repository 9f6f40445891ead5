"""What the wire shows of overlay networks: their packets in the clear, or sealed.

An overlay carries its packets in VXLAN, and one that encrypts puts ESP around that (Docker does so
by IPsec policies for its port). Sensors on the uplinks see which of the two leaves and arrives.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netwatch.agent.addresses import packed
from netwatch.model.link import Link, Links
from netwatch.model.snapshot import Network
from netwatch.model.times import SECOND

VXLAN = 4789  # RFC 7348, and what Docker's overlay driver uses
UDP, ESP = 17, 50
FRESH = 60 * SECOND  # what was seen before says nothing of now


@dataclass(frozen=True, slots=True)
class Wire:
    """Whether packets of this host to or from another were VXLAN in the clear, or ESP."""

    clear: bool = False
    sealed: bool = False


def seen_on(entries: npt.NDArray[Any], own: Collection[str], now: int) -> Wire:
    """What rows of ENTRY tell of the last minute; `own` are the host's addresses."""
    mine = np.array([packed(address) for address in own], dtype="V16")
    fresh = (entries["last"] + FRESH > now).any(axis=1)
    here = np.isin(_bytes(entries["low"]), _bytes(mine))
    here |= np.isin(_bytes(entries["high"]), _bytes(mine))
    ports = (entries["low_port"] == VXLAN) | (entries["high_port"] == VXLAN)
    clear = fresh & here & ports & (entries["protocol"] == UDP)
    sealed = fresh & here & (entries["protocol"] == ESP)
    return Wire(bool(clear.any()), bool(sealed.any()))


def _bytes(addresses: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A type that numpy can compare."""
    return np.ascontiguousarray(addresses).view("S16")


def link_over(network: Network, others: Collection[Network], links: Links, wire: Wire) -> Link:
    """What is known of a network that claims to encrypt; `others` are all overlays of the host.

    Between which hosts it runs is not told, so the claim is never proven; the wire can refute it.
    """
    plain = sorted(other.name for other in others if not other.encrypted)
    if wire.clear and not plain:
        why = "VXLAN is on the wire in the clear, though no overlay network here should send that"
        return Link("none", "overlay", network.name, why)
    guarded = any(policy.destination_port == VXLAN for policy in links.policies)
    held = any(state.encrypts for state in links.associations)
    said = (
        "this host has IPsec policies and states for VXLAN"
        if guarded and held
        else "this host has no IPsec policy and state for VXLAN: it may travel in the clear"
    )
    if wire.clear:
        said += f"; VXLAN in the clear is on the wire, which may be that of {plain[0]}"
    elif wire.sealed:
        said += "; ESP is on the wire, and no VXLAN in the clear"
    return Link("claimed", "overlay", network.name, said)

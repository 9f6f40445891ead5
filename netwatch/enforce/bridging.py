"""Packets within a bridge pass iptables only if br_netfilter says so: its switches.

Where there is no br_netfilter, `indoors` enforces.
"""

from __future__ import annotations

from netwatch.enforce import kernel
from netwatch.model.snapshot import Snapshot


def see(snapshot: Snapshot, *, enforcing: bool) -> tuple[str, ...]:
    """Set the switches; what they hid before, in sentences."""
    found = unseen(snapshot, enforcing=enforcing)
    for name in found:
        kernel.set_sysctl(name, "1")
    return tuple(found.values())


def unseen(snapshot: Snapshot, *, enforcing: bool) -> dict[str, str]:
    """The switches that hide bridged packets from our rules, each with a sentence."""
    if not enforcing or not any(network.driver == "bridge" for network in snapshot.networks):
        return {}
    return {
        name: f"net.bridge.{name} is {value}: traffic within a bridge is not seen"
        for name, value in (kernel.sysctls().items() if kernel.bridges_seen() else ())
        if value != "1"
    }

"""Masquerading and published ports, as Docker does it, for hosts whose subnets nobody routes to.

Docker's rules in the nat table: a chain reached from PREROUTING and OUTPUT for destinations that
are local, one DNAT per published port there, and MASQUERADE for what leaves the bridge's subnet.
There is no docker-proxy, so a workload may use its own host's published ports as with
`userland-proxy: false`.
"""

from __future__ import annotations

from collections.abc import Iterable

from netwatch.kernel import commands
from netwatch.lab.plan import BRIDGE, Address, PlacedHost, PlacedWorkload

CHAIN = "LAB"
RESTORE = {4: "iptables-nft-restore", 6: "ip6tables-nft-restore"}


def rules(host: PlacedHost, workloads: Iterable[PlacedWorkload], *, version: int) -> str:
    """The nat table of one address family, as iptables-restore reads it."""
    subnet = next(subnet for subnet in host.subnets if subnet.version == version)
    lines = [
        "*nat",
        f":{CHAIN} - [0:0]",
        f"-A PREROUTING -m addrtype --dst-type LOCAL -j {CHAIN}",
        f"-A OUTPUT -m addrtype --dst-type LOCAL -j {CHAIN}",
        f"-A POSTROUTING -s {subnet} ! -o {BRIDGE} -j MASQUERADE",
    ]
    for workload in workloads:
        address = next((a for a in workload.addresses if a.version == version), None)
        for door in workload.doors if address else ():
            protocol = door.listen.protocol
            lines.append(
                f"-A {CHAIN} -p {protocol} --dport {door.port} "
                f"-j DNAT --to-destination {_bracketed(address)}:{door.listen.port}"
            )
    return "\n".join([*lines, "COMMIT", ""])


def apply(host: PlacedHost, workloads: tuple[PlacedWorkload, ...]) -> None:
    """Load both families in the caller's namespace. Raises CommandMissing or CommandFailed."""
    for version, program in RESTORE.items():
        feed = rules(host, workloads, version=version)
        commands.check([program, "--noflush", "-w", "5"], feed=feed)


def _bracketed(address: Address | None) -> str:
    return f"[{address}]" if address and address.version == 6 else str(address)

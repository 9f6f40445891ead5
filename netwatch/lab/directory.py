"""Who is where in a running lab, and which address and port lead from one name to another.

Imported by `lab connect`, which is called hundreds of times: it needs nothing beyond the standard
library, and little of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netwatch.model.errors import NetwatchError


class NotInLab(NetwatchError):
    """A name, address or family that the running lab does not have."""

    code = "not-in-lab"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name. `host` is None outside every host, and a host's own name for a host.

    `doors`: the addresses of its host where other hosts must knock, because NAT hides its own;
    `published` then maps `tcp/443` to the host's port.
    """

    name: str
    netns: str
    host: str | None
    addresses: tuple[str, ...]
    doors: tuple[str, ...] = ()
    published: Mapping[str, int] = field(default_factory=dict)


def family_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def of_family(addresses: tuple[str, ...], family: int | None, *, what: str) -> str:
    """The first address of that family; None prefers IPv4. Raises NotInLab."""
    for wanted in (4, 6) if family is None else (family,):
        for address in addresses:
            if family_of(address) == wanted:
                return address
    raise NotInLab(f"{what} has no IPv{family or 4} address")


def reach(
    entries: Mapping[str, Entry],
    source: str,
    *,
    target: str,
    protocol: str,
    port: int,
    family: int | None = None,
) -> tuple[str, int]:
    """Where `source` must aim to reach `port` of `target`.

    An address is aimed at as it is. A workload behind NAT is reached from its own host at its own
    address, from anywhere else at its host's address and published port; a port that is not
    published keeps its number, so that the host itself refuses it. Raises NotInLab.
    """
    here = entries.get(source)
    if here is None:
        raise NotInLab(f"the lab has no host or workload {source!r}")
    there = entries.get(target)
    if there is None:
        if "." in target or ":" in target:
            return target, port
        raise NotInLab(f"the lab has no host or workload {target!r}", "or give an address")
    if there.host == here.host or not there.doors:
        return of_family(there.addresses, family, what=target), port
    door = of_family(there.doors, family, what=f"the host of {target}")
    known = there.published.get(f"{protocol}/{port}")
    if known is None and any(
        e.host == there.host and port in e.published.values() for e in entries.values()
    ):
        raise NotInLab(
            f"{target} does not publish {protocol}/{port}, and its host leads that port elsewhere"
        )
    return door, known or port

"""What the answers of name servers taught: names with their addresses, each until it expires."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearnedName:
    """`name` (lower case, no last dot) had `address` for `workload` until `expires` (ns).

    `workload` is the identity of the one that the answer went to; None: the host's own resolver
    was answered, so that it holds for all of its workloads.
    """

    name: str
    address: str
    expires: int
    workload: str | None = None


def addresses_by_name(
    learned: Iterable[LearnedName], now: int, *, workload: str | None = None
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`World.names`: every name with the addresses that hold at `now` for this workload."""
    table: dict[str, set[str]] = {}
    for each in learned:
        if each.expires > now and each.workload in (None, workload):
            table.setdefault(each.name, set()).add(each.address)
    return tuple((name, tuple(sorted(table[name]))) for name in sorted(table))

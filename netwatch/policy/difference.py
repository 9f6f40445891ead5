"""What a change of policies changes: who reaches whom on which ports, not which lines differ.

Ports are compared as ranges, so the answer is exact for all of them: a verdict can only change at
a port that some rule, or some workload's documentation, begins or ends with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from netwatch.policy.evaluate import ENFORCED, Judge
from netwatch.policy.ir import Mode, Party, Place, Policy, World
from netwatch.policy.match import governs
from netwatch.policy.parts import (
    End,
    Ports,
    joined,
    outside_ends,
    parties_of,
    port_parts,
    workload_ends,
)

_NOWHERE = Place("", 0, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """`source` reaches `destination` on `ports` only after (gained) or only before (lost).

    `sources` and `destinations` are all that each end stands for: no rule tells them apart.
    """

    kind: str
    source: str
    destination: str
    ports: tuple[Ports, ...]
    sources: tuple[str, ...]
    destinations: tuple[str, ...]


def difference(
    before: Sequence[Policy],
    after: Sequence[Policy],
    world: World,
    *,
    now: int,
    modes: frozenset[Mode] = ENFORCED,
) -> tuple[Change, ...]:
    """Every change of reachability, lost ones first; empty if and only if nothing changes.

    Ends are the world's workloads, the host, and one address of each part of the outside that the
    documents tell apart.
    """
    judges = Judge(before, world, modes), Judge(after, world, modes)
    policies = (*judges[0].policies, *judges[1].policies)
    host = Party(host=True)
    ends = [
        *workload_ends(policies, world),
        End(host, host, "host", ("host",)),
        *outside_ends(policies, world),
    ]
    concerned = [_concerns(judges, end) for end in ends]
    parts = port_parts(policies, world)
    changes: list[Change] = []
    for source, leaves in zip(ends, concerned, strict=True):
        for destination, enters in zip(ends, concerned, strict=True):
            if leaves or enters:
                changes.extend(_changes(judges, source, destination, parts, now))
    return tuple(sorted(changes, key=lambda c: (c.kind == "gained", c.source, c.destination)))


def _changes(
    judges: tuple[Judge, Judge],
    source: End,
    destination: End,
    parts: Sequence[Ports],
    now: int,
) -> Iterator[Change]:
    """At most two: what this pair lost, and what it gained."""
    ends = parties_of(source, destination)
    found: dict[str, list[Ports]] = {"lost": [], "gained": []}
    for ports in parts:
        was, will = (
            judge.decide(*ends, ports.protocol, ports.first, now=now).verdict == "allow"
            for judge in judges
        )
        if was != will:
            found["gained" if will else "lost"].append(ports)
    for kind, several in found.items():
        if several:
            yield Change(
                kind,
                source.name,
                destination.name,
                tuple(joined(several)),
                source.members,
                destination.members,
            )


def _concerns(judges: tuple[Judge, Judge], end: End) -> bool:
    """Whether the documents that govern this end differ in anything but their place."""
    workload = end.party.workload
    if workload is None:
        return False
    was, will = (
        {_placeless(policy) for policy in judge.policies if governs(policy, workload, judge.world)}
        for judge in judges
    )
    return was != will


@lru_cache(maxsize=65_536)
def _placeless(policy: Policy) -> Policy:
    ingress, egress = (
        tuple(dataclasses.replace(rule, place=_NOWHERE) for rule in rules)
        for rules in (policy.ingress, policy.egress)
    )
    return dataclasses.replace(policy, place=_NOWHERE, ingress=ingress, egress=egress)

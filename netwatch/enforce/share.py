"""One workload's share of a host's rules: what holds its own two directions, and no more.

Packets of macvlan, of ipvlan and of an overlay never pass the host's FORWARD, and those within a
bridge do not where br_netfilter is missing. There the same rules stand in the workload's own
namespace, on INPUT and OUTPUT: each end holds its own side, and both must permit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from netwatch.enforce.cordon import FROM, INSIDE, TO
from netwatch.enforce.portguard import NO_GUARD
from netwatch.enforce.ruleset import (
    Chain,
    InSet,
    Jump,
    MemberSet,
    Return,
    Rule,
    Ruleset,
    Through,
)
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload

SEEN = frozenset({"bridge", "host", "null", "none"})  # drivers without a path of their own
# whatever leaves the namespace of a quarantined workload, or arrives, is its own
_CAGED = {
    "NW-IN": (Rule(Return(), (Through("in", "lo"),)), Rule(Jump(TO, back=False))),
    "NW-OUT": (Rule(Return(), (Through("out", "lo"),)), Rule(Jump(FROM, back=False))),
}
_OWN = (
    *("edge", "cidr-in", "cidr-out", "bar", "bar-in", "bar-out", "cut-in", "cut-out"),
    *("far-in", "far-out", "any", "iso-in", "iso-out", "shut-in", "shut-out"),
)
_BLOCKS = tuple(f"{prefix}{letter}-" for prefix in ("nw-", "nw-s-") for letter in "edb")


def hidden_from_host(workload: Workload, snapshot: Snapshot, *, bridges_seen: bool) -> bool:
    """Whether packets of this workload have a way that the host's rules do not see."""
    if workload.host_network:
        return False
    drivers = {network.name: network.driver for network in snapshot.networks}
    joined = {drivers.get(name, "bridge") for name in workload.networks}
    return bool(joined - SEEN) or ("bridge" in joined and not bridges_seen)


def share_of(ruleset: Ruleset, addresses: Iterable[str]) -> Ruleset | None:
    """The rules for the namespace with these addresses; None if they need none there."""
    own = frozenset(addresses)
    members = {each.title: each for each in ruleset.sets}
    sets = [_own_part(each, own) for each in ruleset.sets]
    judged = ("iso-in", "iso-out", INSIDE)
    if not any(each.members & own for each in sets if each.name.endswith(judged)):
        return None
    held = any(each.members & own for each in sets if each.name == INSIDE)
    chains = tuple(
        (
            family,
            tuple(
                Chain(
                    chain.name,
                    (
                        *(_CAGED.get(chain.name, ()) if held else ()),
                        *(r for r in chain.rules if _concerns(r, family, members, own)),
                    ),
                )
                for chain in chains
            ),
        )
        for family, chains in ruleset.chains
    )
    asked = {
        f"{match.name}{family}"
        for family, listed in chains
        for chain in listed
        for rule in chain.rules
        for match in rule.matches
        if isinstance(match, InSet)
    }
    return replace(
        ruleset,
        chains=chains,
        sets=tuple(each for each in sets if each.title in asked),
        guard=NO_GUARD,
    )


def _own_part(each: MemberSet, own: frozenset[str]) -> MemberSet:
    name = each.name.removeprefix("nw-").removeprefix("s-")
    if name not in _OWN:
        return each
    kept = frozenset(m for m in each.members if not own.isdisjoint(_ends(m)))
    return replace(each, members=kept)


def _ends(member: str) -> tuple[str, ...]:
    """The first and the last field of a member: addresses, or a network."""
    fields = member.split(",")
    return fields[0], fields[-1]


def _concerns(rule: Rule, family: int, sets: Mapping[str, MemberSet], own: frozenset[str]) -> bool:
    """False for a rule between sets of ends none of which is here."""
    ends = [
        sets[f"{match.name}{family}"].members
        for match in rule.matches
        if isinstance(match, InSet) and match.name.startswith(_BLOCKS)
    ]
    return not ends or any(_ends(member)[0] in own for members in ends for member in members)

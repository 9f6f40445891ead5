"""Quarantine as rules: before everything in every hook, and there only while it holds somebody.

Both directions are dropped, what is established included. A packet that entered by the port of a
quarantined workload counts as its own, whatever source address it claims (link-local ones too).
The forensic networks are the one exception, for each workload its own, and whoever is quarantined
at the other end must permit it as well. That permission is final: no policy is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from netwatch.enforce.regions import family_of, member
from netwatch.enforce.ruleset import (
    FAMILIES,
    Chain,
    Drop,
    Entered,
    IcmpType,
    InSet,
    Jump,
    Log,
    Match,
    MemberSet,
    Protocol,
    Return,
    Rule,
    Ruleset,
    Sampled,
    Through,
)
from netwatch.model.snapshot import Quarantine, Snapshot
from netwatch.model.workload import Workload

INSIDE = "nw-quarantine"
FROM, TO, DROP = "NW-Q-FROM", "NW-Q-TO", "NW-Q-DROP"
NEIGHBOURS = (135, 136)  # IPv6 resolves addresses inside ICMPv6, as IPv4 does beside it, by ARP
MARK = "quarantine"


def cordoned(ruleset: Ruleset, snapshot: Snapshot) -> Ruleset:
    """The ruleset with the snapshot's quarantine in front of it; itself if nobody is in it."""
    if not snapshot.quarantined:
        return ruleset
    held = {entry.workload: entry for entry in snapshot.quarantined}
    inmates = [w for w in snapshot.workloads if w.key in held and not w.host_network]
    chains = tuple(
        (family, (*_hooks(chains, inmates), *_chains(snapshot.quarantined, family)))
        for family, chains in ruleset.chains
    )
    notes = tuple(f"{workload.key} is quarantined" for workload in inmates)
    return replace(
        ruleset,
        chains=chains,
        sets=(*ruleset.sets, *_sets(snapshot.quarantined, inmates)),
        enforcing=True,
        facts=replace(ruleset.facts, notes=(*notes, *ruleset.facts.notes)),
    )


def may_talk(snapshot: Snapshot) -> Callable[[str, str], bool]:
    """Whether the snapshot's quarantine lets two addresses talk, as the rules below do."""
    allowed = {
        address: tuple(ip_network(network) for network in entry.allow)
        for entry in snapshot.quarantined
        for workload in snapshot.workloads
        if workload.key == entry.workload and not workload.host_network
        for address in workload.addresses
    }

    def may(one: str, other: str) -> bool:
        return all(
            own not in allowed or any(ip_address(far) in network for network in allowed[own])
            for own, far in ((one, other), (other, one))
        )

    return may


def _hooks(chains: tuple[Chain, ...], inmates: list[Workload]) -> Iterator[Chain]:
    """The given chains; what a hook jumps to begins with the question who is quarantined."""
    leave, reach = Jump(FROM, back=False), Jump(TO, back=False)
    ports: list[Match] = [
        Entered(i.name) if i.bridge else Through("in", i.name)
        for i in sorted({i for w in inmates for i in w.interfaces})
    ]
    doors = tuple(Rule(leave, (port,)) for port in ports)
    ends = (Rule(leave, (InSet(INSIDE, "src"),)), Rule(reach, (InSet(INSIDE, "dst"),)))
    front = {"NW-FWD": (*doors, *ends), "NW-IN": (*doors, *ends), "NW-OUT": ends}
    for chain in chains:
        yield Chain(chain.name, (*front.get(chain.name, ()), *chain.rules))


def _chains(entries: tuple[Quarantine, ...], family: int) -> tuple[Chain, ...]:
    """Out of a quarantined end, and into one; a goto led here, so RETURN ends all of ours."""
    drop = Rule(Jump(DROP, back=False))
    leaving: list[Rule] = []
    coming: list[Rule] = []
    for entry in sorted(entries, key=lambda entry: entry.workload):
        if not any(family_of(network) == family for network in entry.allow):
            continue
        own, far = f"nw-q-own-{_id(entry)}", f"nw-q-far-{_id(entry)}"
        out = (InSet(own, "src"), InSet(far, "dst"))
        leaving.append(Rule(Jump(TO, back=False), (*out, InSet(INSIDE, "dst"))))
        leaving.append(Rule(Return(), out))
        coming.append(Rule(Return(), (InSet(own, "dst"), InSet(far, "src"))))
    if leaving and family == 6:
        seek = [Rule(Return(), (Protocol("icmpv6"), IcmpType(each))) for each in NEIGHBOURS]
        leaving, coming = [*seek, *leaving], [*seek, *coming]
    log = Rule(Log(f"nw:Q:{MARK}"), (Sampled("q"),))
    return (
        Chain(FROM, (*leaving, drop)),
        Chain(TO, (*coming, drop)),
        Chain(DROP, (log, Rule(Drop()))),
    )


def _sets(entries: tuple[Quarantine, ...], inmates: list[Workload]) -> Iterator[MemberSet]:
    """Filled before the rules that ask them, emptied after."""
    for family in FAMILIES:
        own = {
            w.key: frozenset(a for a in (*w.addresses, *w.link_local) if family_of(a) == family)
            for w in inmates
        }
        everybody = frozenset(address for mine in own.values() for address in mine)
        yield MemberSet(INSIDE, family, "hash:ip", "allow", everybody)
        for entry in entries:
            far = [network for network in entry.allow if family_of(network) == family]
            if far:
                mine = own.get(entry.workload, frozenset())
                there = frozenset(part for network in far for part in member(network))
                yield MemberSet(f"nw-q-own-{_id(entry)}", family, "hash:ip", "allow", mine)
                yield MemberSet(f"nw-q-far-{_id(entry)}", family, "hash:net", "allow", there)


def _id(entry: Quarantine) -> str:
    return hashlib.sha256(entry.workload.encode(errors="replace")).hexdigest()[:12]

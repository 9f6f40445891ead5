"""Rules for what a SYN can not answer: names that are still asked for, and broken obligations.

A miss of a rule with a DNS name is dropped and not rejected, so that TCP tries again when the
answer is in. What broke its obligation is refused for a while, before any edge is asked. Both are
added to a finished ruleset, and only where a document speaks of such things.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from netwatch.enforce.ends import world_of
from netwatch.enforce.regions import family_of
from netwatch.enforce.ruleset import FAMILIES, Chain, Drop, InSet, Jump, MemberSet, Rule, Ruleset
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Addresses, Snapshot
from netwatch.policy.ir import LINK_ENCRYPTED, NamePeer, Policy
from netwatch.policy.match import governs
from netwatch.policy.networks import stands_for

NAMED, REFUSED = "nw-named", "nw-refused"
MISS, MISSED = "NW-MISS", "NW-T-MISSED"
_DENY = Rule(Jump("NW-DENY", back=False))


def conditional(ruleset: Ruleset, enforced: Sequence[Policy], snapshot: Snapshot) -> Ruleset:
    """The ruleset with what these documents need beyond edges; itself if that is nothing."""
    named = [policy for policy in enforced if _asks_for_names(policy)]
    obliging = any(
        rule.obligation not in (None, LINK_ENCRYPTED)
        for policy in enforced
        for rule in (*policy.ingress, *policy.egress)
    )
    if named:
        ruleset = _patient(ruleset, named, snapshot)
    return _refusing(ruleset, snapshot) if obliging else ruleset


def names_of(policies: Sequence[Policy]) -> tuple[NamePeer, ...]:
    """The DNS names that these documents speak of, each once."""
    peers = (
        peer
        for policy in policies
        for rule in (*policy.ingress, *policy.egress)
        for peer in rule.peers
        if isinstance(peer, NamePeer)
    )
    return tuple(dict.fromkeys(peers))


def narrowed(snapshot: Snapshot, policies: Sequence[Policy]) -> Snapshot:
    """Without the names that no document speaks of: they change no rule."""
    asked = names_of(policies)

    def spoken(names: Addresses) -> Addresses:
        return tuple(each for each in names if any(stands_for(peer, each[0]) for peer in asked))

    return replace(snapshot, names=spoken(snapshot.names), lapsed=spoken(snapshot.lapsed))


def _asks_for_names(policy: Policy) -> bool:
    return any(isinstance(peer, NamePeer) for rule in policy.egress for peer in rule.peers)


def _patient(ruleset: Ruleset, named: Sequence[Policy], snapshot: Snapshot) -> Ruleset:
    world = world_of(snapshot)
    members = {
        address
        for workload in snapshot.workloads
        if any(governs(policy, workload, world) for policy in named)
        for address in (*workload.addresses, *workload.link_local)
    }
    miss = Rule(Jump(MISS, back=False), (InSet(NAMED, "src"),))
    chains = tuple(
        (family, (*_before(chains, "NW-EXT-OUT", _DENY, miss), *_misses(chains)))
        for family, chains in ruleset.chains
    )
    return replace(ruleset, chains=chains, sets=(*ruleset.sets, *_sets(NAMED, "hash:ip", members)))


def _misses(chains: Sequence[Chain]) -> Iterator[Chain]:
    """Told like every denial, and then silent."""
    denied = next(chain for chain in chains if chain.name == "NW-DENY")
    yield Chain(MISS, (*denied.rules[:-1], Rule(Jump(MISSED, back=False))))
    yield Chain(MISSED, (Rule(Drop()),))


def _refusing(ruleset: Ruleset, snapshot: Snapshot) -> Ruleset:
    members = {
        f"{each.source},{each.protocol}:{each.port},{each.destination}"
        for each in snapshot.refused
    }
    refuse = Rule(_DENY.target, (InSet(REFUSED, "src,dst,dst"),))
    edge = next(
        rule
        for _, chains in ruleset.chains
        for chain in chains
        if chain.name == "NW-NEW"
        for rule in chain.rules
        if InSet("nw-edge", "src,dst,dst") in rule.matches
    )
    chains = tuple(
        (family, tuple(_before(chains, "NW-NEW", edge, refuse)))
        for family, chains in ruleset.chains
    )
    sets = _sets(REFUSED, "hash:ip,port,ip", members)
    return replace(ruleset, chains=chains, sets=(*ruleset.sets, *sets))


def _before(chains: Sequence[Chain], name: str, mark: Rule, rule: Rule) -> Iterator[Chain]:
    """The chains, with `rule` before `mark` in the chain of that name."""
    for chain in chains:
        if chain.name != name:
            yield chain
            continue
        if mark not in chain.rules:
            raise NetwatchError(f"the chain {name} is not as it should be", "please report this")
        at = chain.rules.index(mark)
        yield Chain(name, (*chain.rules[:at], rule, *chain.rules[at:]))


def _sets(name: str, kind: str, members: set[str]) -> Iterator[MemberSet]:
    for family in FAMILIES:
        mine = frozenset(m for m in members if family_of(m.split(",")[0]) == family)
        yield MemberSet(name, family, kind, "guard", mine)

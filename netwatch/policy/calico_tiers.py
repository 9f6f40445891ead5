"""Calico's tiers around its `default` one, as documents of the Admin and Baseline tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from netwatch.model.errors import InvalidDocument
from netwatch.policy.foreign import Named, no_equal
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    Mode,
    NetworkPeer,
    PeerSpec,
    Policy,
    Rule,
    Selector,
    Tier,
    WorkloadPeer,
)
from netwatch.policy.nodes import invalid, shorten
from netwatch.policy.short import named_namespace
from netwatch.policy.tiers import MAX_PRIORITY


@dataclass(frozen=True, slots=True)
class KnownTier:
    """What the document of a tier says: its order, and whether what no rule matches goes on."""

    order: float
    passes: bool


@dataclass(frozen=True, slots=True)
class Read:
    """One document, with its rules in order and their actions."""

    named: Named
    name: str
    tier: str
    order: float
    mode: Mode
    subject: Selector
    namespaces: Selector
    isolates: tuple[bool, bool]
    sides: tuple[tuple[Rule, ...], tuple[Rule, ...]]

    def meets(self, namespace: str | None) -> bool:
        """Whether both may govern the same workload."""
        return self.named.namespace is None or namespace in (None, self.named.namespace)


def in_tier(each: Read, mine: Sequence[Read], tier: Tier, known: KnownTier) -> Policy:
    """This document in the Admin or Baseline tier; `mine` are all of its own tier."""
    sides = []
    for number, rules in enumerate(each.sides):
        ends = bool(rules) and rules[-1] == replace(
            rules[-1], peers=(), ports=(), action=Action.PASS
        )
        if each.isolates[number] and not (known.passes or ends):
            raise no_equal(
                each.named.spec,
                f"the tier {shorten(each.tier)}, which denies what no rule of it matches,",
                "give it spec: {defaultAction: Pass}, or end each policy with {action: Pass}",
            )
        kept = rules[:-1] if ends and each is mine[-1] else rules
        sides.append(tuple(_with_peers(rule, ingress=number == 0) for rule in kept))
    orders = [other.order for other in mine]
    whole = all(o.is_integer() and 0 <= o <= MAX_PRIORITY for o in orders)
    priority = int(each.order) if whole and len({*orders}) == len(orders) else mine.index(each)
    if priority > MAX_PRIORITY:
        raise no_equal(
            each.named.spec, f"more than {MAX_PRIORITY + 1} policies of a tier", "merge some"
        )
    own = each.named.namespace
    ingress, egress = sides
    if own is not None:
        ingress, egress = (tuple(_placed(rule, own) for rule in rules) for rules in sides)
    return Policy(
        "ClusterNetworkPolicy",
        each.name if own is None else f"{own}-{each.name}",
        None,
        each.subject,
        each.mode,
        each.named.place,
        ingress=ingress,
        egress=egress,
        tier=tier,
        priority=priority,
        namespaces=each.namespaces if own is None else named_namespace([own]),
    )


def _passes_all(rule: Rule) -> bool:
    return rule.action is Action.PASS and not rule.peers and not rule.ports


def _placed(rule: Rule, namespace: str) -> Rule:
    """Peers that name no namespace are of the policy's own."""
    own = named_namespace([namespace])
    peers: list[PeerSpec] = []
    for peer in rule.peers:
        if isinstance(peer, WorkloadPeer) and peer.namespaces is None:
            peers.append(WorkloadPeer(peer.workloads, own))
        else:
            peers.append(peer)
    return replace(rule, peers=tuple(peers))


def _with_peers(rule: Rule, *, ingress: bool) -> Rule:
    """As a document of a tier can say it: peers by labels, and networks as destinations only."""
    if ingress and not (rule.peers and all(isinstance(p, WorkloadPeer) for p in rule.peers)):
        raise at(
            rule,
            "a source that is no workload, in a tier,",
            "add source: {namespaceSelector: all()}, or say it in the tier `default`",
        )
    if not rule.peers:
        everywhere = (NetworkPeer("0.0.0.0/0"), NetworkPeer("::/0"))
        return replace(rule, peers=(WorkloadPeer(EVERYTHING, EVERYTHING), *everywhere))
    for peer in rule.peers:
        if isinstance(peer, NetworkPeer) and peer.excepts:
            raise at(rule, "notNets in a tier", "name the networks that are meant")
    return rule


def at(rule: Rule, what: str, hint: str) -> InvalidDocument:
    """The error that what this rule says has no equal."""
    return invalid(rule.place, f"{what} has no equal here", hint)

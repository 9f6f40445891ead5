"""The compiled rules and `decide` agree on documents of all three tiers together."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    HostPeer,
    Mode,
    NetworkPeer,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Rule,
    Selector,
    Tier,
    WorkloadPeer,
)
from tests.unit.enforce.test_agreement import disagreements
from tests.unit.enforce.worlds import DENIED, chosen, random_denials, random_policies, random_world


def random_tiers(draw: random.Random, count: int) -> tuple[Policy, ...]:
    """Documents of the Admin and Baseline tiers, each with a priority of its own."""
    return tuple(_random_tier(draw, number) for number in range(count))


def _random_tier(draw: random.Random, number: int) -> Policy:
    place = Place("tiers.yaml", number + 1, 1)
    rules = [tuple(_random_rule(draw, place) for _ in range(draw.randrange(4))) for _ in range(2)]
    return Policy(
        kind="ClusterNetworkPolicy",
        name=f"t{number}",
        namespace=None,
        subject=_some(draw, "app", "abc"),
        mode=Mode.ENFORCE,
        place=place,
        ingress=rules[0],
        egress=rules[1],
        tier=draw.choice((Tier.ADMIN, Tier.BASELINE)),
        priority=number,
        namespaces=_some(draw, "team", "xy"),
    )


def _some(draw: random.Random, key: str, values: str) -> Selector:
    if draw.random() < 0.5:
        return EVERYTHING
    return chosen(key, *draw.sample(values, draw.randrange(1, len(values) + 1)))


def _random_rule(draw: random.Random, place: Place) -> Rule:
    peer: PeerSpec = draw.choice(
        (
            WorkloadPeer(_some(draw, "app", "abc"), _some(draw, "team", "xy")),
            WorkloadPeer(EVERYTHING, EVERYTHING),
            NetworkPeer("0.0.0.0/0"),
            NetworkPeer("198.51.100.0/24"),
            NetworkPeer("::/0"),
            HostPeer(),
        )
    )
    ports = draw.choice(
        (
            (),
            (),
            (PortSpec("tcp", 80, 80),),
            (PortSpec("tcp", 80, 100), PortSpec("udp", 53, 53)),
            (PortSpec(name="http"),),
            *DENIED,
        )
    )
    return Rule(place, (peer,), ports, draw.choice(tuple(Action)))


@pytest.mark.parametrize("seed", range(15))
def test_rules_agree_with_decide_in_every_tier(seed: int) -> None:
    """One answer for all; only what a remote end alone denies is left to that end's host."""
    draw = random.Random(seed)
    snapshot = random_world(draw, 5)
    middle = (*random_policies(draw, draw.randrange(4)), *random_denials(draw, draw.randrange(2)))
    policies = (*middle, *random_tiers(draw, draw.randrange(1, 4)))
    wrong = disagreements(policies, snapshot)
    assert not wrong, f"seed {seed}: {len(wrong)} of them, first {wrong[0]}"


@pytest.mark.parametrize("seed", range(5))
def test_a_tier_that_only_accepts_or_passes_changes_no_rule(seed: int) -> None:
    """Where nothing is denied nothing is closed: the members are those of no document at all."""
    draw = random.Random(seed)
    snapshot = random_world(draw, 5)
    policies = [
        replace(
            policy,
            ingress=tuple(r for r in policy.ingress if r.action is not Action.DENY),
            egress=tuple(r for r in policy.egress if r.action is not Action.DENY),
        )
        for policy in random_tiers(draw, 3)
    ]
    found = compile(policies, snapshot, now=0)
    closed = {each.title for each in found.sets if each.members and "iso-" in each.title}
    assert closed == set()

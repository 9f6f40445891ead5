"""A change of rules at every moment of it: what both policies deny never passes, and nothing that
both allow is lost."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.plan import Actual, Plan, desired_state, plan
from netwatch.enforce.render import chain_marks
from netwatch.enforce.ruleset import FAMILIES, Chain, MemberSet, Rule, Ruleset
from netwatch.enforce.walk import Packet, Walker
from netwatch.model.snapshot import Snapshot
from netwatch.policy.ir import Policy
from tests.unit.enforce.test_agreement import asked
from tests.unit.enforce.worlds import (
    allow,
    chosen,
    policy,
    random_denials,
    random_policies,
    random_world,
    snapshot,
    workload,
)

MARK = re.compile(r"--comment (nw:[0-9a-f]{10})")


class Kernel:
    """What the steps of a plan do to chains and sets, a line at a time."""

    def __init__(self, begin: Actual, rules: Mapping[tuple[int, str], Rule]) -> None:
        self.rules = rules
        self.sets = {title: (kind, set(members)) for title, (kind, members) in begin.sets.items()}
        self.chains = {key: list(marks) for key, marks in begin.chains.items()}

    def moments(self, change: Plan) -> Iterator[None]:
        """After every line for sets and after every restore of a family."""
        for step in change.steps:
            if step.family is not None:
                self._restore(step.family, step.lines)
                yield
                continue
            for line in step.lines:
                self._set(line)
                yield

    def _set(self, line: str) -> None:
        verb, title, *rest = line.split(" ")
        if verb == "create":
            self.sets[title] = rest[0], set()
        elif verb == "destroy":
            del self.sets[title]
        elif verb == "add":
            self.sets[title][1].add(rest[0])
        else:
            self.sets[title][1].remove(rest[0])

    def _restore(self, family: int, lines: Sequence[str]) -> None:
        for verb, name in (line.split(" ")[:2] for line in lines if " " in line):
            if verb[0] == ":":
                self.chains[family, verb[1:]] = []
            elif verb == "-X":
                del self.chains[family, name]
        for line in lines:
            if line.startswith("-A"):
                found = MARK.search(line)
                assert found
                self.chains[family, line.split(" ")[1]].append(found[1])

    def walker(self) -> Walker:
        """As packets find it now."""
        chains = tuple(
            (
                family,
                tuple(
                    Chain(name, tuple(self.rules[name, mark] for mark in marks))
                    for (known, name), marks in self.chains.items()
                    if known == family and name.startswith("NW-")
                ),
            )
            for family in FAMILIES
        )
        sets = tuple(
            MemberSet(title[:-1], int(title[-1]), kind, "", frozenset(members))
            for title, (kind, members) in self.sets.items()
        )
        return Walker(Ruleset(chains, sets, enforcing=True))


def typed(*rulesets: Ruleset) -> dict[tuple[str, str], Rule]:
    """Every rule by its chain and mark."""
    return {
        (chain.name, mark): rule
        for ruleset in rulesets
        for family, chains in ruleset.chains
        for chain in chains
        for mark, rule in zip(chain_marks(chain, family), chain.rules, strict=True)
    }


def wrong(old: Ruleset, new: Ruleset, packets: Sequence[Packet]) -> list[str]:
    """Every packet that some moment treats otherwise than both rulesets do."""
    first, last = Walker(old), Walker(new)
    same = [(p, first.verdict(p)) for p in packets if first.verdict(p) == last.verdict(p)]
    change = plan(new, desired_state(old))
    kernel = Kernel(desired_state(old), typed(old, new))
    found = []
    for number, _ in enumerate(kernel.moments(change)):
        now = kernel.walker()
        found += [
            f"moment {number}: {packet} is not {verdict}"
            for packet, verdict in same
            if now.verdict(packet) != verdict
        ]
    end = kernel.walker()
    assert [end.verdict(p) for p in packets] == [last.verdict(p) for p in packets]
    return found


def drawn(seed: int, size: int) -> tuple[random.Random, Snapshot, list[Packet]]:
    """A world and a sample of its packets."""
    draw = random.Random(seed)
    world = random_world(draw, size)
    every = [packet for _, _, packet in asked(world)]
    return draw, world, draw.sample(every, min(len(every), 60))


@pytest.mark.parametrize("seed", range(12))
def test_no_moment_of_a_change_of_policies_is_wrong(seed: int) -> None:
    """Documents come, go and change while workloads stay."""
    draw, world, packets = drawn(seed, 4)
    old = random_policies(draw, draw.randrange(0, 4))
    new = (*draw.sample(old, len(old) // 2), *random_policies(draw, draw.randrange(0, 3)))
    found = wrong(compile(old, world, now=0), compile(new, world, now=0), packets)
    assert found == []


@pytest.mark.parametrize("seed", range(12))
def test_no_moment_is_wrong_where_ports_are_kept_from_everybody(seed: int) -> None:
    """Such documents come and go beside some that isolate."""
    draw, world, packets = drawn(200 + seed, 3)
    some = (*random_denials(draw, 3), *random_policies(draw, 2))
    old, new = (draw.sample(some, draw.randrange(len(some) + 1)) for _ in range(2))
    found = wrong(compile(old, world, now=0), compile(new, world, now=0), packets)
    assert found == []


@pytest.mark.parametrize("seed", range(8))
def test_no_moment_of_a_change_of_workloads_is_wrong(seed: int) -> None:
    """A workload goes and another comes: for all others nothing happens, not for a packet."""
    draw, world, packets = drawn(100 + seed, 5)
    policies = (*random_policies(draw, 2), *random_denials(draw, 1 + seed % 2))
    less = [
        replace(world, workloads=world.workloads[:-1]),
        replace(world, workloads=world.workloads[1:]),
    ]
    moved = {a for w in (world.workloads[0], world.workloads[-1]) for a in w.addresses}
    staying = [p for p in packets if not {p.source, p.destination} & moved]
    one, other = (compile(policies, each, now=0) for each in less)
    assert wrong(one, other, staying) == []


WEB = chosen("app", "web")
EVERY_PORT = policy(chosen("app", "api"), name="in", isolates_ingress=True, ingress=(allow(),))
SHUT = policy(WEB, name="out", isolates_egress=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param((EVERY_PORT, SHUT), (SHUT,), id="an isolation with wide rules goes"),
        pytest.param((SHUT,), (EVERY_PORT, SHUT), id="an isolation with wide rules comes"),
        pytest.param(
            (replace(EVERY_PORT, ingress=()),), (EVERY_PORT, SHUT), id="opened to others at once"
        ),
        pytest.param(
            (EVERY_PORT, SHUT), (replace(EVERY_PORT, ingress=()),), id="shut for others at once"
        ),
    ],
)
def test_wide_rules_change_without_a_gap(old: Sequence[Policy], new: Sequence[Policy]) -> None:
    """They are rules and not members, and must stand before ends close and until they open."""
    world = snapshot(workload("web", 10), workload("api", 11), workload("rogue", 12))
    packets = [packet for _, _, packet in asked(world)]
    assert wrong(compile(old, world, now=0), compile(new, world, now=0), packets) == []

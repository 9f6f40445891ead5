"""What a compiler remembers changes nothing: after any changes it answers like a new one."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from netwatch.enforce.compile import Compiler, compile
from netwatch.enforce.plan import desired_state, moves, plan
from netwatch.enforce.ruleset import Ruleset
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Network, Quarantine, Snapshot
from netwatch.model.workload import Label, Workload
from netwatch.policy.ir import Mode, NamePeer, Policy, PortSpec, WorkloadPeer
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

STEPS = 16
EXPIRES = 50  # the time goes from 0 to STEPS * 10
NAME = NamePeer("api.example")


def documents(draw: random.Random) -> tuple[Policy, ...]:
    """Some enforced, some staged; rules that expire, DNS names, denials."""
    found = [
        *random_policies(draw, draw.choice((2, 5))),
        *random_denials(draw, draw.choice((0, 2))),
    ]
    found = [replace(p, mode=draw.choice((Mode.ENFORCE, Mode.ENFORCE, Mode.STAGE))) for p in found]
    if draw.random() < 0.5:
        rule = replace(draw.choice([allow(), allow(NAME)]), expires=draw.choice((None, EXPIRES)))
        found.append(policy(chosen("app", "a"), isolates_egress=True, egress=(rule,)))
    return tuple(found)


def changed(draw: random.Random, now: Snapshot, number: int) -> Snapshot:
    """One thing more that happens on a host."""
    kind = draw.randrange(13)
    there = list(now.workloads)
    if kind < 4 or not there:
        return replace(now, workloads=(*there, newcomer(draw, number)))
    one = draw.choice(there)
    at = there.index(one)
    if kind < 7:
        return replace(now, workloads=tuple(there[:at] + there[at + 1 :]))
    match kind:
        case 7:  # the same name comes back as somebody else, and where another one was
            there[at] = replace(
                newcomer(draw, number),
                name=one.name,
                namespace=one.namespace,
                addresses=draw.choice(there).addresses,
            )
        case 8:  # the kernel tells of a link
            there[at] = replace(one, link_local=(f"fe80::{number:x}",), pid=number)
        case 9:
            held = () if now.quarantined else (Quarantine(one.key),)
            return replace(
                now, quarantined=held, names=(("api.example", (f"203.0.113.{number}",)),)
            )
        case 10 if now.neighbours:
            return replace(now, neighbours=())
        case 10:
            return replace(now, neighbours=random_world(draw, 0).neighbours)
        case 11:  # but for the time
            return now
        case 12:
            other = Network("more", "bridge", "br1", ("198.51.100.0/24",), ("198.51.100.1",))
            return replace(now, networks=(now.networks[0], *((other,) if number % 2 else ())))
    return replace(now, workloads=tuple(there))


def newcomer(draw: random.Random, number: int) -> Workload:
    """Of labels seen before, or not; in the network of the host, or in none; published or not."""
    old = draw.choice(random_world(draw, 3).workloads)
    labels = (*old.labels, Label("app", draw.choice("abc"), "lab"))
    away = {"addresses": (f"203.0.113.{number}",)} if draw.random() < 0.2 else {}
    return workload(
        f"n{number}", 60 + number, labels=labels, published=old.published, **away,
        namespace=old.namespace, host_network=draw.random() < 0.1,
    )  # fmt: skip


def answer(
    compiler: Compiler | None, policies: tuple[Policy, ...], now: Snapshot, at: int
) -> object:
    """The ruleset with its facts, or why there is none."""
    try:
        found = compiler(now, now=at) if compiler else compile(policies, now, now=at)
    except NetwatchError as error:
        return str(error)
    return found, found.facts


@pytest.mark.parametrize("seed", range(40))
def test_a_compiler_that_remembers_answers_like_a_new_one(seed: int) -> None:
    """Rules, members and facts, whoever comes and goes, with whatever address, whenever."""
    draw = random.Random(seed)
    policies = documents(draw)
    compiler = Compiler(policies)
    now = random_world(draw, draw.choice((0, 3, 8)))
    if draw.random() < 0.6:
        now = replace(now, neighbours=())
    for number in range(STEPS):
        before, now = now, changed(draw, now, number)
        told = answer(compiler, policies, now, number * 10)
        assert told == answer(None, policies, now, number * 10), f"step {number}"
        if draw.random() < 0.2:  # and back, where much is remembered
            told = answer(compiler, policies, before, number * 10)
            assert told == answer(None, policies, before, number * 10), f"step {number}, back"


@pytest.mark.parametrize("seed", range(20))
def test_moves_are_what_the_plan_would_do(seed: int) -> None:
    """In the same order; and none where the plan changes a rule."""
    draw = random.Random(seed)
    policies = documents(draw)
    now = replace(random_world(draw, 5), neighbours=())
    last: Ruleset | None = None
    for number in range(STEPS):
        now = changed(draw, now, number)
        try:
            following = compile(policies, now, now=0)
        except NetwatchError:
            continue
        if last is not None:
            whole, few = plan(following, desired_state(last)), moves(last, following)
            assert (few is None) == bool(whole.rules)
            if few is not None:
                assert (few.steps, few.guard) == (whole.steps, whole.guard)
        last = following


def test_another_one_of_a_kind_costs_members_only() -> None:
    """Its own address, and those that it may meet."""
    world, policies, web = shop()
    one, two = compile(policies, world, now=0), compile(policies, more(world, web), now=0)
    change = moves(one, two)
    assert change is not None
    lines = [line for step in change.steps for line in step.lines]
    assert "add nw-known4 198.18.1.70" in lines
    assert "add nw-edge4 198.18.1.70,tcp:80,198.18.1.11" in lines
    own = web.addresses
    assert all(line.startswith("add ") and any(a in line for a in own) for line in lines)


def test_whoever_takes_over_an_address_inherits_nothing() -> None:
    """Not even where the one before was of the same name."""
    world, policies, web = shop()
    compiler = Compiler(policies)
    compiler(more(world, web), now=0)
    rogue = replace(web, labels=(Label("app", "c", "lab"),))
    found = compiler(more(world, rogue), now=0)
    edges = {m for s in found.sets if s.name == "nw-edge" for m in s.members}
    assert "198.18.1.10,tcp:80,198.18.1.11" in edges
    assert not any(web.addresses[0] in edge for edge in edges)


def shop() -> tuple[Snapshot, tuple[Policy, ...], Workload]:
    """One web, one db that lets webs in; and another web that is not there yet."""
    web = workload("web", 10, labels=(Label("app", "a", "lab"),))
    db = workload("db", 11, labels=(Label("app", "b", "lab"),))
    rule = allow(WorkloadPeer(chosen("app", "a")), ports=(PortSpec("tcp", 80, 80),))
    policies = (policy(chosen("app", "b"), isolates_ingress=True, ingress=(rule,)),)
    other = replace(workload("web2", 70, labels=web.labels), interfaces=())
    return snapshot(web, db), policies, other


def more(world: Snapshot, one: Workload) -> Snapshot:
    return replace(world, workloads=(*world.workloads, one))

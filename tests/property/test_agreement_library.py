"""The shelves of the policy library, each turned on as a whole: the rules and `decide` agree."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.ends import world_of
from netwatch.enforce.walk import DENY, Walker
from netwatch.model.snapshot import Snapshot
from netwatch.policy.evaluate import Judge
from netwatch.policy.ir import Policy
from tests.unit.enforce.test_agreement import _remote_alone, asked
from tests.unit.enforce.test_broad_denials import denials, library
from tests.unit.enforce.worlds import random_world
from tests.unit.policy.shelf import HOST

PORTS = (
    22,
    23,
    25,
    53,
    80,
    135,
    445,
    2375,
    2379,
    3333,
    3389,
    5985,
    6443,
    9050,
    9100,
    10250,
    50000,
)


def sample(world: Snapshot, seed: int, policies: tuple[Policy, ...]) -> list[str]:
    """Calls, mostly to the ports that the library speaks of, on which rules and decide differ."""
    draw = random.Random(seed)
    walker = Walker(compile(policies, world, now=0))
    judge = Judge(policies, world_of(world))
    wrong = []
    for source, destination, packet in draw.sample(list(asked(world)), 2500):
        if packet.port is not None and draw.random() < 0.8:
            packet = replace(packet, port=draw.choice(PORTS))
            if destination.workload and packet.port in {
                n for p in destination.workload.published for n in (p.port, p.host_port)
            }:
                continue
        question = packet.protocol, packet.port
        kernel = walker.verdict(packet) != DENY
        said = judge.decide(source, destination, *question).verdict == "allow"
        if kernel and not said and _remote_alone(judge, world, source, destination, *question):
            continue
        if kernel != said:
            wrong.append(f"{packet} kernel {kernel} decide {said}")
    return wrong


@pytest.mark.parametrize("chosen", [denials(), library()], ids=["denials", "everything"])
@pytest.mark.parametrize("world", ["shop", "one", "two"])
def test_the_library_turned_on_together_agrees_with_decide(
    world: str, chosen: tuple[Policy, ...]
) -> None:
    """Every policy that needs no parameter, enforced at once in every namespace."""
    seed = {"shop": 0, "one": 1, "two": 2}[world]
    host = HOST if world == "shop" else random_world(random.Random(seed), 8)
    wrong = sample(host, seed, chosen)
    assert not wrong, f"{len(wrong)} of them, first {wrong[0]}"

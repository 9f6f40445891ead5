"""Who could call whom, as pairs: what the network makes possible, and what policies leave of it.

A pair is one destination's documented port away from the other; ports that nobody documented are
no way that a person would plan for. The outside is one end, `internet`: for what leaves a workload
any public address on any port, for what enters it a published port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from netwatch.model.workload import Workload
from netwatch.policy.evaluate import ENFORCED, Judge
from netwatch.policy.ir import Mode, Party, Policy, World
from netwatch.policy.matrix import pair
from netwatch.policy.networks import holds, internet
from netwatch.policy.parts import outside_ends, port_parts, workload_ends

INTERNET = "internet"
Pair = tuple[str, str]


def possible(world: World) -> Iterator[Pair]:
    """What could be called if there were no policy: `namespace/name` of both ends.

    Containers on bridges of one host that they do not share can not call each other, other than
    through a port that is published; what hosts may call of each other nobody here knows, so it
    counts as possible.
    """
    for source in world.workloads:
        yield source.key, INTERNET
        if source.published:
            yield INTERNET, source.key
        for destination in world.workloads:
            if source.identity != destination.identity and _connected(source, destination):
                yield source.key, destination.key


def _connected(source: Workload, destination: Workload) -> bool:
    """Whether a way leads to any port of the destination that somebody wrote down."""
    if not destination.ports:
        return False
    if source.host != destination.host or not (source.networks and destination.networks):
        return True
    return bool({*source.networks} & {*destination.networks}) or bool(destination.published)


def allowed(
    policies: Sequence[Policy],
    world: World,
    *,
    now: int,
    modes: frozenset[Mode] = ENFORCED,
) -> Iterator[Pair]:
    """The possible pairs that the policies permit on at least one port."""
    judge = Judge(policies, world, modes)
    inside = _inside(judge, now)
    for source, destination in possible(world):
        if INTERNET not in (source, destination) and inside(source, destination):
            yield source, destination
    yield from _outward(judge, now)
    yield from _inward(judge, now)


def _inside(judge: Judge, now: int) -> Callable[[str, str], bool]:
    """Whether a workload may call another one; what no rule tells apart is decided once."""
    known = {workload.key: workload for workload in judge.world.workloads}
    ends = workload_ends(judge.policies, judge.world)
    group = {member: number for number, end in enumerate(ends) for member in end.members}
    decided: dict[tuple[int, int], bool] = {}

    def permitted(source: str, destination: str) -> bool:
        pairing = group[source], group[destination]
        if pairing not in decided:
            ends = pair(known[source], known[destination])
            decided[pairing] = any(
                judge.decide(*ends, port.protocol, port.number, now=now).verdict == "allow"
                for port in known[destination].ports
            )
        return decided[pairing]

    return permitted


def _outward(judge: Judge, now: int) -> Iterator[Pair]:
    """Workloads that may call some public address on some port."""
    outside = _public(judge)
    parts = port_parts(judge.policies, judge.world)
    for end in workload_ends(judge.policies, judge.world):
        if any(
            judge.decide(end.party, far, part.protocol, part.first, now=now).verdict == "allow"
            for far in outside
            if _speaks(end.party.workload, far)
            for part in parts
        ):
            yield from ((member, INTERNET) for member in end.members)


def _inward(judge: Judge, now: int) -> Iterator[Pair]:
    """Workloads that some public address may call through a published port."""
    outside = _public(judge)
    for workload in judge.world.workloads:
        own = Party(workload)
        if any(
            judge.decide(far, own, door.protocol, door.port, now=now).verdict == "allow"
            for far in outside
            if _speaks(workload, far)
            for door in workload.published
        ):
            yield INTERNET, workload.key


def _public(judge: Judge) -> list[Party]:
    """One public address of each part of the outside that some rule tells apart."""
    networks = internet(judge.world)
    ends = outside_ends(judge.policies, judge.world, apart=networks)
    parties = [end.party for end in ends]
    return [p for p in parties if p.address and any(holds(net, p.address) for net in networks)]


def _speaks(workload: Workload | None, far: Party) -> bool:
    """Whether it has an address of that family; true where its addresses are not known."""
    if workload is None or not workload.addresses:
        return True
    return any((":" in own) == (":" in (far.address or "")) for own in workload.addresses)

"""The compiled rules and `decide` give the same answer, whatever the documents say.

A few worlds of each kind; tests/property/test_agreement.py asks about many.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.ends import world_of
from netwatch.enforce.walk import DENY, Packet, Walker
from netwatch.model.snapshot import Snapshot
from netwatch.policy.evaluate import Judge
from netwatch.policy.ir import LINK_ENCRYPTED, Action, Party, Policy, Rule, Tier
from netwatch.policy.judgement import Direction
from tests.unit.enforce.worlds import OUTSIDE, random_denials, random_policies, random_world

PORTED = (
    *(("tcp", port) for port in (22, 80, 82, 83, 99, 100, 160, 443, 1000, 1001)),
    ("udp", 53),
    ("udp", 54),
    ("sctp", 80),
)
QUESTIONS = {
    4: (*PORTED, ("icmp", None), ("gre", None)),
    6: (*PORTED, ("icmpv6", None), ("gre", None)),
}


def parties(snapshot: Snapshot, family: int) -> list[tuple[Party, str]]:
    """Everybody with an address of the family that this host can see as it is."""
    found = [
        (Party(w, address), address)
        for w in snapshot.workloads
        for address in w.addresses
        if (":" in address) == (family == 6)
    ]
    for neighbour in snapshot.neighbours:
        if neighbour.routed:
            found += [
                (Party(w, address), address)
                for w in neighbour.workloads
                for address in w.addresses
                if (":" in address) == (family == 6)
            ]
    hosts = [a for a in snapshot.addresses if (":" in a) == (family == 6)]
    found += [(Party(None, address, host=True), address) for address in hosts]
    outside = [a for a in OUTSIDE if (":" in a) == (family == 6)]
    return found + [(Party(address=address), address) for address in outside]


def asked(snapshot: Snapshot) -> Iterator[tuple[Party, Party, Packet]]:
    """Every call that this host can see, from and to ends of every kind, in both families."""
    here = {id(workload) for workload in snapshot.workloads}
    doors = {port.host_port for w in snapshot.workloads for port in w.published}
    for family in (4, 6):
        ends = parties(snapshot, family)
        for (source, start), (destination, end) in itertools.product(ends, ends):
            if source.workload is destination.workload:
                continue
            if not {id(source.workload), id(destination.workload)} & here:
                continue
            hook = "NW-OUT" if source.host else "NW-IN" if destination.host else "NW-FWD"
            for protocol, port in QUESTIONS[family]:
                by_proxy = source.host and _publishes(destination, port)
                if port not in doors and not by_proxy:
                    yield source, destination, Packet(hook, start, end, protocol, port)


def _publishes(party: Party, port: int | None) -> bool:
    """docker-proxy's call from the host is admitted for published ports, whatever policies say."""
    return party.workload is not None and port in {p.port for p in party.workload.published}


def disagreements(policies: tuple[Policy, ...], snapshot: Snapshot) -> list[str]:
    """Calls on which the compiled rules and `decide` differ, both told."""
    walker = Walker(compile(policies, snapshot, now=0))
    judge = Judge(policies, world_of(snapshot))
    wrong = []
    for source, destination, packet in asked(snapshot):
        question = packet.protocol, packet.port
        kernel = walker.verdict(packet) != DENY
        said = judge.decide(source, destination, *question).verdict == "allow"
        if kernel and not said and _remote_alone(judge, snapshot, source, destination, *question):
            continue
        if kernel != said:
            wrong.append(f"{packet} kernel {kernel} decide {said}")
    return wrong


@pytest.mark.parametrize("seed", range(2))
def test_rules_agree_with_decide(seed: int) -> None:
    """One answer for all; only what a remote end alone denies is left to that end's host."""
    assert_agreement(*permitting(seed))


@pytest.mark.parametrize("seed", range(2))
def test_ports_that_are_kept_from_everybody_agree_with_decide(seed: int) -> None:
    """Denials without isolation, alone and beside documents that isolate."""
    assert_agreement(*denying(seed))


def permitting(seed: int) -> tuple[tuple[Policy, ...], Snapshot]:
    """Documents that isolate and permit, and a world for them."""
    draw = random.Random(seed)
    snapshot = random_world(draw, 7)
    return random_policies(draw, draw.randrange(1, 6)), snapshot


def denying(seed: int) -> tuple[tuple[Policy, ...], Snapshot]:
    """Documents that deny ports, two of three times beside others that isolate, and a world."""
    draw = random.Random(seed)
    snapshot = random_world(draw, 6)
    policies = random_denials(draw, draw.randrange(1, 5))
    if seed % 3:
        policies += random_policies(draw, draw.randrange(1, 4))
    return policies, snapshot


def on_encrypted_links(seed: int) -> tuple[tuple[Policy, ...], Snapshot]:
    """Rules that hold on encrypted links alone, and a world where some pairs have such a link."""
    draw = random.Random(seed)
    snapshot = random_world(draw, 7)
    far = [a for n in snapshot.neighbours for w in n.workloads for a in w.addresses]
    near = [a for w in snapshot.workloads for a in w.addresses]
    pairs = [pair for pair in itertools.product(near, far) if draw.random() < 0.4]
    snapshot = replace(snapshot, protected=tuple(sorted(pairs)))
    return tuple(_demanding(policy, draw) for policy in random_policies(draw, 5)), snapshot


def assert_agreement(policies: tuple[Policy, ...], snapshot: Snapshot) -> None:
    """No call of this world gets two answers."""
    wrong = disagreements(policies, snapshot)
    assert not wrong, f"{len(wrong)} of them, first {wrong[0]}"


def _remote_alone(
    judge: Judge,
    snapshot: Snapshot,
    source: Party,
    destination: Party,
    protocol: str,
    port: int | None,
) -> bool:
    if source.workload in snapshot.workloads:
        side = judge.side(Direction.EGRESS, source, destination, protocol, port)
    else:
        side = judge.side(Direction.INGRESS, destination, source, protocol, port)
    both = source.workload in snapshot.workloads and destination.workload in snapshot.workloads
    return side.permits and not both


@pytest.mark.parametrize("seed", range(2))
def test_doors_are_judged_as_what_is_behind_them(seed: int) -> None:
    """A call from here to a published port of this host gets the answer of the workload."""
    assert_doors_agree(seed)


def assert_doors_agree(seed: int) -> None:
    """Every published port of a world, called by every workload of it."""
    draw = random.Random(seed)
    snapshot = random_world(draw, 7)
    policies = random_policies(draw, 4)
    walker = Walker(compile(policies, snapshot, now=0))
    judge = Judge(policies, world_of(snapshot))
    for behind in snapshot.workloads:
        for door in behind.published:
            for caller in snapshot.workloads:
                packet = Packet("NW-IN", caller.addresses[0], "198.18.1.1", "tcp", door.host_port)
                said = judge.decide(
                    Party(caller, caller.addresses[0]),
                    Party(behind, behind.addresses[0]),
                    "tcp",
                    door.port,
                )
                assert (walker.verdict(packet) != DENY) == (said.verdict == "allow"), packet


@pytest.mark.parametrize("seed", range(2))
def test_same_input_same_digest(seed: int) -> None:
    """The order of documents and of workloads means nothing."""
    assert_order_means_nothing(seed)


def assert_order_means_nothing(seed: int) -> None:
    """A world and its documents, and both shuffled."""
    draw = random.Random(seed)
    snapshot = random_world(draw, 5)
    policies = list(random_policies(draw, 4))
    first = compile(policies, snapshot, now=0).digest
    draw.shuffle(policies)
    snapshot = replace(snapshot, workloads=snapshot.workloads[::-1])
    assert compile(policies, snapshot, now=0).digest == first


@pytest.mark.parametrize("seed", range(2))
def test_a_rule_for_encrypted_links_compiles_where_the_link_is_protected(seed: int) -> None:
    """Some pairs of one group are joined by such a link and some are not: each gets its answer."""
    assert_agreement(*on_encrypted_links(seed))


def _demanding(policy: Policy, draw: random.Random) -> Policy:
    """The document with `require: link-encrypted` in about half of its allowing rules."""

    def changed(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(
            replace(rule, obligation=LINK_ENCRYPTED)
            if rule.action is Action.ALLOW and draw.random() < 0.5
            else rule
            for rule in rules
        )

    if policy.tier is not Tier.MIDDLE:
        return policy
    return replace(policy, ingress=changed(policy.ingress), egress=changed(policy.egress))

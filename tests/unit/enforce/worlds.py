"""Random worlds and documents for the tests of enforcement; a seed makes each of them again."""

from __future__ import annotations

import random

from netwatch.model.snapshot import Neighbour, Network, Snapshot
from netwatch.model.workload import DocumentedPort, Interface, Label, PublishedPort, Workload
from netwatch.policy.ir import (
    Action,
    HostPeer,
    InternetPeer,
    Mode,
    NetworkPeer,
    Operator,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Selector,
    WorkloadPeer,
)

HERE = Place("made.yaml", 1, 1)
PORTS = (80, 81, 443, 53)
OUTSIDE = ("198.51.100.7", "198.51.100.130", "203.0.113.9", "2001:db8:ffff::7")


def workload(name: str, number: int, *, host: str = "a", **others: object) -> Workload:
    """A workload on the host's bridge, with an address of each family."""
    subnet = 1 if host == "a" else 2
    fields = {
        "labels": (Label("app", name, "lab"),),
        "addresses": (f"198.18.{subnet}.{number}", f"2001:db8:{subnet}::{number:x}"),
        "interfaces": (Interface(f"v-{name}", number, "br0", "lab"),),
        "networks": ("lab",),
        "ports": (DocumentedPort(80, "tcp", "lab", "http"),),
    } | others
    return Workload(host, str(fields.pop("namespace", "x")), name, "netns", **fields)


def snapshot(*workloads: Workload, neighbours: tuple[Neighbour, ...] = ()) -> Snapshot:
    """Host `a` with these workloads on one bridge."""
    network = Network(
        "lab", "bridge", "br0", ("198.18.1.0/24", "2001:db8:1::/64"), ("198.18.1.1",)
    )
    return Snapshot(
        "a",
        workloads,
        (network,),
        neighbours,
        namespaces=(("x", (("team", "x"),)), ("y", (("team", "y"),))),
        addresses=("192.0.2.1", "198.18.1.1", "2001:db8:1::1"),
    )


def chosen(key: str, *values: str) -> Selector:
    """Objects whose label `key` is one of the values."""
    return Selector((Requirement(key, Operator.IN, frozenset(values)),))


def allow(*peers: PeerSpec, ports: tuple[PortSpec, ...] = (), **others: object) -> Rule:
    """A rule that allows these peers."""
    return Rule(HERE, peers, ports, **others)


def policy(subject: Selector, *, namespace: str | None = "x", **others: object) -> Policy:
    """A NetworkPolicy that is enforced, unless `others` says otherwise."""
    fields = {"kind": "NetworkPolicy", "name": "made", "mode": Mode.ENFORCE} | others
    return Policy(namespace=namespace, subject=subject, place=HERE, **fields)


def random_world(draw: random.Random, size: int) -> Snapshot:
    """`size` workloads in two namespaces, with a few labels, some published, and a neighbour."""

    def one(number: int, host: str) -> Workload:
        name = f"w{number}"
        published = ()
        if draw.random() < 0.2:
            published = (PublishedPort("0.0.0.0", 8000 + number, 80, "tcp"),)
        return workload(
            name,
            10 + number,
            host=host,
            namespace=draw.choice("xy"),
            labels=(
                Label("app", draw.choice("abc"), "lab"),
                Label("tier", draw.choice("12"), "lab"),
                Label("unique", name, "lab"),
            ),
            ports=(DocumentedPort(draw.choice(PORTS), "tcp", "lab", "http"),),
            published=published,
        )

    away = tuple(one(100 + number, "b") for number in range(2))
    neighbour = Neighbour("b", ("192.0.2.2",), draw.random() < 0.5, away)
    return snapshot(*(one(number, "a") for number in range(size)), neighbours=(neighbour,))


def random_policies(draw: random.Random, count: int) -> tuple[Policy, ...]:
    """NetworkPolicy and Segment documents with every kind of peer and port."""
    return tuple(_random_policy(draw, number) for number in range(count))


def _random_policy(draw: random.Random, number: int) -> Policy:
    kind = draw.choice(("NetworkPolicy", "Segment"))
    directions = draw.choice(((True, False), (False, True), (True, True)))
    rules = [
        tuple(_random_rule(draw, kind) for _ in range(draw.randrange(3))) if there else ()
        for there in directions
    ]
    return Policy(
        kind=kind,
        name=f"p{number}",
        namespace=draw.choice("xy"),
        subject=_random_selector(draw),
        mode=Mode.ENFORCE,
        place=Place("made.yaml", number + 1, 1),
        isolates_ingress=directions[0],
        isolates_egress=directions[1],
        ingress=rules[0],
        egress=rules[1],
    )


def _random_selector(draw: random.Random) -> Selector:
    if draw.random() < 0.2:
        return Selector()
    key, values = draw.choice((("app", "abc"), ("tier", "12")))
    return chosen(key, *draw.sample(values, draw.randrange(1, len(values) + 1)))


def _random_peer(draw: random.Random) -> PeerSpec:
    return draw.choice(
        (
            WorkloadPeer(_random_selector(draw)),
            WorkloadPeer(_random_selector(draw), chosen("team", draw.choice("xy"))),
            WorkloadPeer(_random_selector(draw), Selector()),
            NetworkPeer("198.51.100.0/24", ("198.51.100.128/25",)),
            NetworkPeer("0.0.0.0/0", ("198.18.1.8/29",)),
            NetworkPeer("198.18.0.0/15"),
            NetworkPeer("::/0"),
            HostPeer(),
            InternetPeer(),
        )
    )


def _random_port(draw: random.Random) -> PortSpec:
    first = draw.choice(PORTS)
    return draw.choice(
        (
            PortSpec("tcp", first, first),
            PortSpec("udp", first, first),
            PortSpec("tcp", 80, 82),
            PortSpec("tcp", 100, 1000),
            PortSpec("tcp"),
            PortSpec("tcp", name="http"),
            PortSpec("icmp"),
        )
    )


def _random_rule(draw: random.Random, kind: str) -> Rule:
    action = Action.DENY if kind == "Segment" and draw.random() < 0.3 else Action.ALLOW
    return Rule(
        HERE,
        tuple(_random_peer(draw) for _ in range(draw.randrange(3))),
        tuple(_random_port(draw) for _ in range(draw.randrange(3))),
        action,
    )


DENIED = (
    (PortSpec("tcp", 80, 80),),
    tuple(PortSpec("tcp", port, port) for port in (22, 23, 82, 443, 3389)),
    (PortSpec("tcp", 81, 83), PortSpec("udp", 53, 54)),
    (PortSpec("tcp", 100, 1000),),
    (PortSpec("tcp", 90, 99), PortSpec("tcp", 99, 160), PortSpec("udp")),
    (PortSpec("tcp", 0, 79), PortSpec("tcp", 1001, 65535)),
    (PortSpec("icmp"),),
    (PortSpec("tcp"),),
    (PortSpec("tcp", name="http"),),
)


def random_denials(draw: random.Random, count: int) -> tuple[Policy, ...]:
    """Segments that isolate nobody and keep ports from everybody, or from some; who is excepted
    has an exception."""
    return tuple(_random_denial(draw, number) for number in range(count))


def _random_denial(draw: random.Random, number: int) -> Policy:
    anyone = draw.random() < 0.6
    peers = () if anyone else (_random_peer(draw),)
    rules = [Rule(HERE, peers, draw.choice(DENIED), Action.DENY)]
    if draw.random() < 0.4:
        spared = draw.choice(rules[0].ports[:2])
        rules.append(Rule(HERE, (_random_peer(draw),), (spared,), exception=True))
    ways = draw.choice(((True, False), (False, True), (True, True)))
    return Policy(
        kind="Segment",
        name=f"d{number}",
        namespace=draw.choice(("x", "y", None)),
        subject=Selector() if draw.random() < 0.6 else _random_selector(draw),
        mode=Mode.ENFORCE,
        place=Place("denied.yaml", number + 1, 1),
        ingress=tuple(rules) if ways[0] else (),
        egress=tuple(rules) if ways[1] else (),
    )

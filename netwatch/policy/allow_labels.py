"""The label `netwatch.allow` of a container, as a proposal: whoever starts a container may wish.

    netwatch.allow: "db:5432, cache:6379, dns:53/udp, queue"

It names services of the same project that the container would like to call: a service, and a
port, a range or a port's name, with a protocol where that is not TCP; without a port it means
every one. A label is never a rule: it proposes a staged Segment that somebody takes over, or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from netwatch.model.errors import InvalidDocument
from netwatch.model.workload import Workload
from netwatch.policy.edits import instead, plain
from netwatch.policy.fields import nearest
from netwatch.policy.ir import Mode, Place, Policy, PortSpec, Rule, WorkloadPeer, World
from netwatch.policy.naming import Naming
from netwatch.policy.nodes import Kind, Node, invalid
from netwatch.policy.short import read_ports

LABEL = "netwatch.allow"
MAX_WISHES = 64
"""Of one label: a service that needs more than that is no service."""

_WISH = re.compile(r"([A-Za-z0-9._-]{1,63})(?::([A-Za-z0-9*/-]{1,40}))?\Z")


@dataclass(frozen=True, slots=True)
class Wish:
    """One entry of a label: whom the workload would like to call, and on which ports."""

    workload: Workload
    service: str
    ports: tuple[PortSpec, ...]


def read_wishes(workload: Workload, node: Node, known: Iterable[str]) -> tuple[Wish, ...]:
    """What the text of the label says; `known` are the services of the project.

    Raises InvalidDocument for what names no service or no port.
    """
    wishes = []
    parts = [part.strip() for part in node.text.split(",")]
    for part in parts[:MAX_WISHES]:
        match = _WISH.match(part)
        services = [name for name in known if name != workload.service]
        if match is None or match[1] not in services:
            raise _refused(node, part, match[1] if match else part, services)
        place = node.place
        ports = () if match[2] is None else read_ports(_port(match[2], place, node))
        wishes.append(Wish(workload, match[1], ports))
    return tuple(wishes)


def wishes_in(world: World) -> tuple[World, tuple[Wish, ...], tuple[InvalidDocument, ...]]:
    """What the labels of running workloads say, replicas once; and what can not be read, which
    nobody has to mend before the rest is proposed: anybody may write a label.

    The world is the same one, each workload with the name of its service.
    """
    named = replace(world, workloads=tuple(_served(w) for w in world.workloads))
    services: dict[str, set[str]] = {}
    for workload in named.workloads:
        services.setdefault(workload.namespace, set()).add(workload.service or "")
    wishes: dict[tuple[str, str | None, str], Wish] = {}
    refused = []
    for workload in named.workloads:
        text = workload.label_values().get(LABEL)
        if not text:
            continue
        node = Node(Kind.TEXT, Place(workload.key, 1, 1), text)
        try:
            for wish in read_wishes(workload, node, sorted(services[workload.namespace])):
                key = (workload.namespace, workload.service, f"{wish.service} {wish.ports}")
                wishes.setdefault(key, wish)
        except InvalidDocument as error:
            refused.append(error)
    return named, tuple(wishes.values()), tuple(refused)


def _served(workload: Workload) -> Workload:
    labels = workload.label_values()
    service = workload.service or labels.get("com.docker.compose.service") or workload.name
    return replace(workload, service=service)


def _port(text: str, place: Place, node: Node) -> Node:
    try:
        read_ports(Node(Kind.TEXT, place, text))
    except InvalidDocument as error:
        right = node.text.replace(f":{text}", ":443", 1)
        hint = f"write {right}"
        raise invalid(place, error.message, hint, instead(node, plain(right))) from None
    return Node(Kind.TEXT, place, text)


def _refused(node: Node, part: str, name: str, services: list[str]) -> InvalidDocument:
    near = nearest(name, services) or next(iter(services), None)
    message = f"{LABEL} is {node.shown}, which names no other service of this project"
    if near is None:
        return invalid(node.place, message, "leave the label empty of names", None)
    right = node.text.replace(part, part.replace(name, near, 1), 1)
    return invalid(node.place, message, f"write {right[:60]}", instead(node, plain(right)))


def proposed(wishes: Iterable[Wish], world: World) -> tuple[Policy, ...]:
    """One staged Segment for each service that somebody would like to call, in order of names."""
    naming = Naming(world)
    asked: dict[tuple[str, str], list[Wish]] = {}
    for wish in wishes:
        asked.setdefault((wish.workload.namespace, wish.service), []).append(wish)
    policies = []
    for (namespace, service), several in sorted(asked.items(), key=lambda item: item[0]):
        target = next(
            (w for w in world.workloads if (w.namespace, w.service) == (namespace, service)), None
        )
        if target is None:
            continue
        place = Place(LABEL, 1, 1)
        rules = tuple(
            Rule(
                place,
                (WorkloadPeer(naming.selector(wish.workload)),),
                wish.ports,
                because=f"proposed by the label {LABEL} of {wish.workload.service}",
            )
            for wish in several
        )
        policies.append(
            Policy(
                "Segment",
                naming.title(target),
                namespace,
                naming.selector(target),
                Mode.STAGE,
                place,
                isolates_ingress=True,
                ingress=rules,
            )
        )
    return tuple(policies)

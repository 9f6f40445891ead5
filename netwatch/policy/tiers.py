"""Reads what all documents of the Admin and Baseline tiers share: subject, ordered rules, peers.

ClusterNetworkPolicy and its two ancestors say the same with different words; a Dialect holds the
words. As in a cluster, every list is bounded, and what the API server refuses is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netwatch.policy import fields
from netwatch.policy.fields import Problems
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    Mode,
    NamePeer,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Rule,
    Selector,
    Tier,
    WorkloadPeer,
)
from netwatch.policy.network_policy import read_selector
from netwatch.policy.nodes import Kind, Node, invalid

MAX_PRIORITY = 1000
MAX_RULE_NAME = 100
MAX_ADDRESSES = 25
"""Networks or domain names of one peer; all three limits are those of the API."""

_INSIDE = ("namespaces", "pods")
_OUTSIDE = ("networks", "domainNames", "nodes")
_LABEL = r"[A-Za-z0-9](?:[-A-Za-z0-9_]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})+\.?\Z")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words of one kind. `ports` is the key of a rule's ports, `port` reads one of them.

    `most` bounds rules, peers and ports in one list; `names`: domain names are among its peers;
    `needs_namespaces`: a peer `pods` must say its namespaceSelector.
    """

    kind: str
    actions: Mapping[str, Action]
    ports: str
    port: Callable[[Node], PortSpec]
    most: int
    names: bool
    needs_namespaces: bool


def read_tier(
    spec: Node,
    entries: Mapping[str, Node],
    *,
    dialect: Dialect,
    name: str,
    mode: Mode,
    place: Place,
    tier: Tier,
    priority: int,
) -> Policy:
    """The policy whose spec has these entries; raises InvalidDocument or InvalidPolicies."""
    problems = Problems()
    namespaces = workloads = EVERYTHING
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    with problems.collected():
        namespaces, workloads = _subject(spec, entries.get("subject"), dialect)
    with problems.collected():
        ingress = _rules(entries.get("ingress"), dialect, "ingress")
    with problems.collected():
        egress = _rules(entries.get("egress"), dialect, "egress")
    problems.raise_any()
    return Policy(
        dialect.kind,
        name,
        None,
        workloads,
        mode,
        place,
        ingress=ingress,
        egress=egress,
        tier=tier,
        priority=priority,
        namespaces=namespaces,
    )


def read_priority(spec: Node, node: Node | None) -> int:
    """0 to 1000, 0 first."""
    if node is None:
        raise invalid(
            spec.place, "the spec has no priority", f"add priority: 0 to {MAX_PRIORITY}, 0 first"
        )
    return fields.whole(node, "priority", 0, MAX_PRIORITY)


def listed(
    node: Node | None, what: str, most: int, *, else_: str | None = None
) -> tuple[Node, ...]:
    """The items of a list that, where it stands, holds 1 to `most` of them.

    `else_` is what to write in place of an empty one, if leaving it out is wrong.
    """
    items = fields.sequence(node, what)
    if node is not None and not 1 <= len(items) <= most:
        raise invalid(
            node.place,
            f"{what} has {len(items) or 'no'} items",
            f"at most {most}" if items else else_ or f"leave {what} out, or write 1 to {most}",
        )
    return items


def _subject(spec: Node, node: Node | None, dialect: Dialect) -> tuple[Selector, Selector]:
    if node is None:
        raise invalid(
            spec.place,
            "the spec does not say whom it governs",
            "add subject: {namespaces: {}} for everybody",
        )
    entries = fields.mapping(node, "subject", _INSIDE)
    return _workloads(_only(node, "the subject", entries), entries, dialect)


def _only(node: Node, what: str, entries: Mapping[str, Node]) -> str:
    """The one key of a mapping that must have exactly one."""
    if len(entries) != 1:
        said = f"names {' and '.join(entries)}" if entries else "names nobody"
        raise invalid(
            node.place, f"{what} {said}", "name one: namespaces: {}, say, for every namespace"
        )
    return next(iter(entries))


def _workloads(
    key: str, entries: Mapping[str, Node], dialect: Dialect
) -> tuple[Selector, Selector]:
    """The selectors of namespaces and of workloads in them."""
    node = entries[key]
    if key == "namespaces":
        return read_selector(node, "namespaces"), EVERYTHING
    known = ("namespaceSelector", "podSelector")
    inner = fields.mapping(node, "pods", known)
    for needed in known if dialect.needs_namespaces else known[1:]:
        if needed not in inner:
            raise invalid(node.place, f"pods has no {needed}", f"for all of them {needed}: {{}}")
    namespaces = EVERYTHING
    if "namespaceSelector" in inner:
        namespaces = read_selector(inner["namespaceSelector"], "namespaceSelector")
    return namespaces, read_selector(inner["podSelector"], "podSelector")


def _rules(node: Node | None, dialect: Dialect, direction: str) -> tuple[Rule, ...]:
    problems = Problems()
    rules = []
    items = fields.sequence(node, direction)
    if node is not None and len(items) > dialect.most:
        raise invalid(
            node.place,
            f"{direction} has {len(items)} rules, and {dialect.most} is the limit",
            "split the document, with another priority for each part",
        )
    for item in items:
        with problems.collected():
            rules.append(_rule(item, dialect, "from" if direction == "ingress" else "to"))
    problems.raise_any()
    return tuple(rules)


def _rule(node: Node, dialect: Dialect, end: str) -> Rule:
    entries = fields.mapping(node, "the rule", ("name", "action", end, dialect.ports))
    problems = Problems()
    action = Action.DENY
    peers: list[PeerSpec] = []
    ports: list[PortSpec] = []
    name = None
    for needed, example in (
        ("action", f"action: {' or '.join(dialect.actions)}"),
        (end, f"{end}: [{{namespaces: {{}}}}] for everybody inside"),
    ):
        if needed not in entries:
            with problems.collected():
                raise invalid(node.place, f"the rule has no {needed}", f"add {example}")
    with problems.collected():
        name = _name(entries.get("name"))
    if "action" in entries:
        with problems.collected():
            word = fields.choice(entries["action"], "action", tuple(dialect.actions))
            action = dialect.actions[word]
    with problems.collected():
        everybody = f"for everybody inside write {end}: [{{namespaces: {{}}}}]"
        for item in listed(entries.get(end), end, dialect.most, else_=everybody):
            with problems.collected():
                peers.extend(_peer(item, dialect, end))
    with problems.collected():
        for item in listed(entries.get(dialect.ports), dialect.ports, dialect.most):
            with problems.collected():
                ports.append(dialect.port(item))
    problems.raise_any()
    _check_together(entries[end], dialect, action, peers, ports)
    return Rule(node.place, tuple(peers), tuple(ports), action, name)


def _name(node: Node | None) -> str | None:
    if node is None:
        return None
    text = fields.string(node, "name", "allow-dns")
    if len(text) > MAX_RULE_NAME:
        raise invalid(
            node.place,
            f"the rule's name has {len(text)} characters",
            f"at most {MAX_RULE_NAME}",
        )
    return text


def _check_together(
    node: Node,
    dialect: Dialect,
    action: Action,
    peers: Iterable[PeerSpec],
    ports: Iterable[PortSpec],
) -> None:
    """What the API refuses of peers beside an action or beside named ports."""
    if action is not Action.ALLOW and any(isinstance(peer, NamePeer) for peer in peers):
        allow = next(word for word, meant in dialect.actions.items() if meant is Action.ALLOW)
        raise invalid(
            node.place,
            f"domainNames stand in a rule whose action is not {allow}",
            f"{allow} the names, and deny networks in a rule after it",
        )
    inside = all(isinstance(peer, WorkloadPeer) for peer in peers)
    if not inside and any(port.name is not None for port in ports):
        raise invalid(
            node.place,
            "the rule has a port's name beside networks or domainNames, which have no such names",
            "write the port's number, or make two rules of it",
        )


def _peer(node: Node, dialect: Dialect, end: str) -> tuple[PeerSpec, ...]:
    entries = fields.mapping(node, "the peer", (*_INSIDE, *_OUTSIDE))
    key = _only(node, "the peer", entries)
    if key in _INSIDE:
        namespaces, workloads = _workloads(key, entries, dialect)
        return (WorkloadPeer(workloads, namespaces),)
    if end == "from":
        raise invalid(
            entries[key].place,
            f"{key} are peers of egress only",
            "name namespaces or pods; a Segment may say from: 10.0.0.0/8",
        )
    if key == "nodes":
        raise invalid(
            entries[key].place,
            "nodes are not supported, because a host has no labels here",
            "write networks: with the addresses of the nodes",
        )
    if key == "domainNames" and not dialect.names:
        raise invalid(
            entries[key].place,
            f"a {dialect.kind} has no domainNames",
            "write networks: [203.0.113.0/24], say",
        )
    items = listed(entries[key], key, MAX_ADDRESSES)
    if key == "networks":
        return tuple(fields.network_peer(item, None, strict=False) for item in items)
    return tuple(NamePeer(_domain(item)) for item in items)


def _domain(node: Node) -> str:
    text = fields.string(node, "a domain name", "www.example.com")
    if node.kind is not Kind.TEXT or len(text) > 253 or not _DOMAIN.match(text):
        raise invalid(
            node.place,
            f"{node.shown} is no domain name",
            "write www.example.com, or *.example.com for every name below it",
        )
    return text.lower().rstrip(".")

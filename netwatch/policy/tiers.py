"""Reads what all documents of the Admin and Baseline tiers share: subject, ordered rules, peers.

ClusterNetworkPolicy and its two ancestors say the same with different words; a Dialect holds the
words. As in a cluster, every list is bounded, and what the API server refuses is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netwatch.model.errors import Replacement
from netwatch.policy import fields
from netwatch.policy.edits import instead, plain
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
EVERY_NAMESPACE = "{namespaces: {}}"
_NETWORKS = "{networks: [203.0.113.0/24]}"
MAX_RULE_NAME = 100
MAX_ADDRESSES = 25
"""Networks or domain names of one peer; all three limits are those of the API."""

_INSIDE = ("namespaces", "pods")
_OUTSIDE = ("networks", "domainNames", "nodes")
_LABEL = r"[A-Za-z0-9](?:[-A-Za-z0-9_]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})+\.?\Z")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words of one kind. `ports` is the key of a rule's ports, `port` reads one of them,
    `example` is one.

    `most` bounds rules, peers and ports in one list; `names`: domain names are among its peers;
    `needs_namespaces`: a peer `pods` must say its namespaceSelector.
    """

    kind: str
    actions: Mapping[str, Action]
    ports: str
    example: str
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
        raise fields.lacks(spec, "the spec has no priority", "priority", str(MAX_PRIORITY // 2))
    return fields.whole(node, "priority", 0, MAX_PRIORITY)


def listed(
    node: Node | None, what: str, most: int, example: str, *, else_: str | None = None
) -> tuple[Node, ...]:
    """The items of a list that, where it stands, holds 1 to `most` of them.

    `example` is a whole one that is right; `else_` says what to write in place of an empty one, if
    leaving it out is wrong.
    """
    items = fields.sequence(node, what, example)
    if node is not None and not items:
        raise invalid(
            node.place,
            f"{what} has no items",
            else_ or f"leave {what} out, or write 1 to {most}, for example {example}",
            instead(node, example),
        )
    if node is not None and len(items) > most:
        raise invalid(
            items[most].place,
            f"{what} has {len(items)} items, and {most} is the limit",
            f"give the others a rule of their own: leave all after {most} out",
            _cut(node, most),
        )
    return items


def _cut(node: Node, most: int) -> Replacement | None:
    """Of a list that is too long, only what fits."""
    if not node.flow:
        first, end = node.items[most].place, node.end
        dash = first.column - 2  # a list in lines begins each item with a dash and a space
        return Replacement(first.line, dash, *end, "") if dash > 0 else None
    return Replacement(*node.items[most - 1].end, *node.items[-1].end, "")


def _subject(spec: Node, node: Node | None, dialect: Dialect) -> tuple[Selector, Selector]:
    if node is None:
        message = "the spec does not say whom it governs"
        raise fields.lacks(spec, message, "subject", EVERY_NAMESPACE)
    entries = fields.mapping(node, "subject", _INSIDE, example=EVERY_NAMESPACE)
    return _workloads(_only(node, "the subject", entries), entries, dialect)


def _only(node: Node, what: str, entries: Mapping[str, Node]) -> str:
    """The one key of a mapping that must have exactly one."""
    if len(entries) != 1:
        said = f"names {' and '.join(entries)}" if entries else "names nobody"
        raise invalid(
            node.place,
            f"{what} {said}",
            f"name one: {EVERY_NAMESPACE}, say, for every namespace",
            instead(node, EVERY_NAMESPACE),
        )
    return next(iter(entries))


def _workloads(
    chosen: str, entries: Mapping[str, Node], dialect: Dialect
) -> tuple[Selector, Selector]:
    """The selectors of namespaces and of workloads in them."""
    node = entries[chosen]
    if chosen == "namespaces":
        return read_selector(node, "namespaces"), EVERYTHING
    known = ("namespaceSelector", "podSelector")
    necessary = known if dialect.needs_namespaces else known[1:]
    example = "{namespaceSelector: {}, podSelector: {}}"
    inner = fields.mapping(node, "pods", known, needed=necessary, example=example)
    for key in necessary:
        if key not in inner:
            raise fields.lacks(node, f"pods has no {key}", key, "{}")
    namespaces = EVERYTHING
    if "namespaceSelector" in inner:
        namespaces = read_selector(inner["namespaceSelector"], "namespaceSelector")
    return namespaces, read_selector(inner["podSelector"], "podSelector")


def _rules(node: Node | None, dialect: Dialect, direction: str) -> tuple[Rule, ...]:
    problems = Problems()
    rules = []
    end = "from" if direction == "ingress" else "to"
    rule = f"{{action: {next(iter(dialect.actions))}, {end}: [{EVERY_NAMESPACE}]}}"
    items = fields.sequence(node, direction, f"[{rule}]")
    if node is not None and len(items) > dialect.most:
        raise invalid(
            items[dialect.most].place,
            f"{direction} has {len(items)} rules, and {dialect.most} is the limit",
            f"split the document, each with another priority: leave all after {dialect.most} out",
            _cut(node, dialect.most),
        )
    for item in items:
        with problems.collected():
            rules.append(_rule(item, dialect, end, rule))
    problems.raise_any()
    return tuple(rules)


def _rule(node: Node, dialect: Dialect, end: str, example: str) -> Rule:
    known = ("name", "action", end, dialect.ports)
    entries = fields.mapping(node, "the rule", known, needed=("action", end), example=example)
    problems = Problems()
    action = Action.DENY
    peers: list[PeerSpec] = []
    ports: list[PortSpec] = []
    name = None
    everybody = f"[{EVERY_NAMESPACE}]"
    for needed, value in (("action", next(iter(dialect.actions))), (end, everybody)):
        if needed not in entries:
            with problems.collected():
                raise fields.lacks(node, f"the rule has no {needed}", needed, value)
    with problems.collected():
        name = _name(entries.get("name"))
    if "action" in entries:
        with problems.collected():
            word = fields.choice(entries["action"], "action", tuple(dialect.actions))
            action = dialect.actions[word]
    with problems.collected():
        hint = f"for everybody inside write {everybody}"
        for item in listed(entries.get(end), end, dialect.most, everybody, else_=hint):
            with problems.collected():
                peers.extend(_peer(item, dialect, end))
    with problems.collected():
        for item in listed(
            entries.get(dialect.ports), dialect.ports, dialect.most, f"[{dialect.example}]"
        ):
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
            f"at most {MAX_RULE_NAME}: {text[:12].strip()}...",
            instead(node, plain(text[:MAX_RULE_NAME].strip())),
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
            f"{allow} the names, or deny networks: [{{networks: [0.0.0.0/0]}}]",
            instead(node, '[{networks: ["0.0.0.0/0"]}]'),
        )
    inside = all(isinstance(peer, WorkloadPeer) for peer in peers)
    if not inside and any(port.name is not None for port in ports):
        raise invalid(
            node.place,
            "the rule has a port's name beside networks or domainNames, which have no such names",
            f"write the port's number, or name peers inside: [{EVERY_NAMESPACE}]",
            instead(node, f"[{EVERY_NAMESPACE}]"),
        )


def _peer(node: Node, dialect: Dialect, end: str) -> tuple[PeerSpec, ...]:
    entries = fields.mapping(node, "the peer", (*_INSIDE, *_OUTSIDE), example=EVERY_NAMESPACE)
    key = _only(node, "the peer", entries)
    if key in _INSIDE:
        namespaces, workloads = _workloads(key, entries, dialect)
        return (WorkloadPeer(workloads, namespaces),)
    if end == "from":
        raise invalid(
            entries[key].place,
            f"{key} are peers of egress only",
            f"name namespaces or pods: {EVERY_NAMESPACE}; a Segment may say from: 10.0.0.0/8",
            instead(node, EVERY_NAMESPACE),
        )
    if key == "nodes":
        raise invalid(
            entries[key].place,
            "nodes are not supported, because a host has no labels here",
            f"write their addresses: {_NETWORKS}",
            instead(node, _NETWORKS),
        )
    if key == "domainNames" and not dialect.names:
        raise invalid(
            entries[key].place,
            f"a {dialect.kind} has no domainNames",
            f"write their addresses: {_NETWORKS}",
            instead(node, _NETWORKS),
        )
    example = "[203.0.113.0/24]" if key == "networks" else "[www.example.com]"
    items = listed(entries[key], key, MAX_ADDRESSES, example)
    if key == "networks":
        return tuple(fields.network_peer(item, None, strict=False) for item in items)
    return tuple(NamePeer(_domain(item)) for item in items)


def _domain(node: Node) -> str:
    text = fields.string(node, "a domain name", "www.example.com", quotable=False)
    if node.kind is not Kind.TEXT or len(text) > 253 or not _DOMAIN.match(text):
        raise invalid(
            node.place,
            f"{node.shown} is no domain name",
            "write www.example.com, or *.example.com for every name below it",
            instead(node, "www.example.com"),
        )
    return text.lower().rstrip(".")

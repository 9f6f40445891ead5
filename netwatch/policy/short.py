"""The short forms in a Segment: labels, peers and ports as a person writes them.

Labels: `{app: web, tier: [a, b]}` or `app=web, tier in (a, b), env!=dev, has(team), !has(old)`.
Peers: labels; `{namespace: pay, labels: {app: web}}`; `host`; `internet`; `anyone`; an address or
CIDR; `{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}`; or a list of those.
Ports: `5432`, `5432/udp`, `8000-8010`, `https`, `*/udp`, or a list of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from netwatch.policy import fields
from netwatch.policy.ir import (
    EVERYTHING,
    HostPeer,
    InternetPeer,
    NetworkPeer,
    Operator,
    PeerSpec,
    PortSpec,
    Requirement,
    Selector,
    WorkloadPeer,
)
from netwatch.policy.nodes import Kind, Node, invalid

_WORDS: dict[str, PeerSpec] = {"host": HostPeer(), "internet": InternetPeer()}
_PEER_KEYS = ("namespace", "labels", "cidr", "except")
_PROTOCOLS = {
    spelling: name.lower() for name in fields.PROTOCOLS for spelling in (name, name.lower())
}
_EQUAL = re.compile(r"([^\s=!()]+)\s*(==|=|!=)\s*([^\s=!()]*)")
_AMONG = re.compile(r"([^\s=!()]+)\s+(in|not\s+in|notin)\s*\(([^()]*)\)")
_HAS = re.compile(r"(!?)\s*has\(\s*([^\s=!()]+)\s*\)")
_ADDRESS = re.compile(r"[0-9.]+(/.*)?|[0-9A-Fa-f:.%]*:[0-9A-Fa-f:.]*(%.*)?(/.*)?")
_RANGE = re.compile(r"([0-9]+)\s*-\s*([0-9]+)")
_DOMAIN = re.compile(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def named_namespace(names: Iterable[str]) -> Selector:
    """The selector of the namespaces with one of these names."""
    return Selector((Requirement(fields.NAMESPACE_NAME, Operator.IN, frozenset(names)),))


def read_labels(node: Node, what: str) -> Selector:
    """Labels in either of the two forms; `{}` selects everything."""
    if node.kind is Kind.TEXT:
        return Selector(tuple(_term(term, node, what) for term in _terms(node.text)))
    fields.mapping(node, what)
    return Selector(tuple(_entry(key, value) for key, value in node.entries))


def _entry(key: Node, value: Node) -> Requirement:
    label = fields.label_key(key.text, key, "the label")
    items = value.items if value.kind is Kind.LIST else (value,)
    if not items:
        raise invalid(value.place, f"the label {key.shown} has no value", "for example [web, api]")
    values = frozenset(fields.label_value(item, f"the label {key.text}") for item in items)
    return Requirement(label, Operator.IN, values)


def _terms(text: str) -> Iterator[str]:
    """The parts between commas that stand in no parentheses."""
    for part in re.split(r",(?![^()]*\))", text):
        yield part.strip()


def _term(term: str, node: Node, what: str) -> Requirement:
    if match := _EQUAL.fullmatch(term):
        key, sign, value = match.groups()
        operator = Operator.NOT_IN if sign == "!=" else Operator.IN
        return Requirement(fields.label_key(key, node, what), operator, frozenset([value]))
    if match := _AMONG.fullmatch(term):
        key, word, listed = match.groups()
        operator = Operator.IN if word == "in" else Operator.NOT_IN
        values = frozenset(value.strip() for value in listed.split(","))
        if "" not in values:
            return Requirement(fields.label_key(key, node, what), operator, values)
    if match := _HAS.fullmatch(term):
        operator = Operator.DOES_NOT_EXIST if match[1] else Operator.EXISTS
        return Requirement(fields.label_key(match[2], node, what), operator)
    hint = "write app=web, tier in (a, b), env!=dev or has(team), with commas between"
    if re.fullmatch(r"[\w.-]+", term):
        hint = f"did you mean {{app: {fields.cleaned(term)}}}?"
    raise invalid(node.place, f"{what} is {node.shown}, which is no label", hint)


def read_peers(node: Node, what: str) -> tuple[PeerSpec, ...]:
    """One peer or a list of them; `anyone` gives none, which means everybody."""
    if node.kind is not Kind.LIST:
        return () if _is_anyone(node) else (_peer(node, what),)
    if not node.items:
        raise invalid(node.place, f"{what} lists nobody", "for everybody write anyone")
    for item in node.items:
        if _is_anyone(item) and len(node.items) > 1:
            raise invalid(item.place, "anyone stands beside others", "leave the others out")
    return () if _is_anyone(node.items[0]) else tuple(_peer(item, what) for item in node.items)


def _is_anyone(node: Node) -> bool:
    return node.kind is Kind.TEXT and node.text == "anyone"


def _peer(node: Node, what: str) -> PeerSpec:
    if node.kind is Kind.TEXT:
        return _word(node, what)
    if node.kind is not Kind.MAPPING:
        raise invalid(
            node.place,
            f"{what} is {node.shown}, but must name a peer",
            "for example {app: web}, host, internet, anyone or 10.0.0.0/8",
        )
    keys = {key.text for key, _ in node.entries}
    if not keys & {"namespace", "labels", "cidr", "except"}:
        return WorkloadPeer(read_labels(node, what))
    entries = fields.mapping(node, "the peer", _PEER_KEYS)
    if keys & {"cidr", "except"}:
        return _network(node, entries)
    workloads = read_labels(entries["labels"], "labels") if "labels" in entries else EVERYTHING
    if "namespace" not in entries:
        return WorkloadPeer(workloads)
    return WorkloadPeer(workloads, _namespaces(entries["namespace"]))


def _network(node: Node, entries: dict[str, Node]) -> NetworkPeer:
    if "cidr" not in entries or len(entries) > 1 + ("except" in entries):
        raise invalid(
            node.place,
            "a peer that is a network has cidr and except, and nothing else",
            "for example {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}",
        )
    return fields.network_peer(entries["cidr"], entries.get("except"), strict=True)


def _namespaces(node: Node) -> Selector:
    """`any`, a name, a list of names, or the labels of namespaces."""
    if node.kind is Kind.MAPPING:
        return read_labels(node, "namespace")
    if node.kind is Kind.TEXT and node.text == "any":
        return EVERYTHING
    items = node.items if node.kind is Kind.LIST else (node,)
    if not items:
        raise invalid(node.place, "namespace lists none", "for every namespace write any")
    return named_namespace(fields.name(item, "namespace") for item in items)


def _word(node: Node, what: str) -> PeerSpec:
    text = node.text
    if text in _WORDS:
        return _WORDS[text]
    if re.search(r"[=()]", text):
        return WorkloadPeer(read_labels(node, what))
    if _ADDRESS.fullmatch(text):
        return NetworkPeer(str(fields.network(node, what, strict=True)))
    if _DOMAIN.fullmatch(text):
        raise invalid(
            node.place,
            f"{what} is the DNS name {node.shown}, and names are not supported yet",
            "write its network, or internet",
        )
    hint = fields.meant(text, ("host", "internet", "anyone"))
    if hint.startswith("known"):
        label = f"{{app: {fields.cleaned(text)}}}"
        hint = f"labels are written {label}; other peers: host, internet, anyone, 10.0.0.0/8"
    raise invalid(node.place, f"{what} is {node.shown}, which names no peer", hint)


def read_ports(node: Node) -> tuple[PortSpec, ...]:
    """One port or a list of them."""
    if node.kind is not Kind.LIST:
        return (_port(node),)
    if not node.items:
        raise invalid(node.place, "ports lists none", "for every port leave ports out")
    return tuple(_port(item) for item in node.items)


def _port(node: Node) -> PortSpec:
    if node.kind not in (Kind.TEXT, Kind.NUMBER):
        raise invalid(node.place, f"the port is {node.shown}", "for example 443, 53/udp or https")
    what, slash, spelling = node.text.partition("/")
    protocol = None
    if slash:
        if spelling not in _PROTOCOLS:
            hint = fields.meant(spelling, [name.lower() for name in fields.PROTOCOLS])
            raise invalid(node.place, f"the port {node.shown} names no protocol", hint)
        protocol = _PROTOCOLS[spelling]
    if what == "*" and protocol:
        return PortSpec(protocol)
    if what.lower() in ("icmp", "icmpv6", "ping"):
        raise invalid(node.place, f"{what} has no ports", "a rule without ports allows ICMP too")
    if match := _RANGE.fullmatch(what):
        first, last = (fields.port_number(end, node, "the port") for end in match.groups())
        return PortSpec(protocol or "tcp", *fields.port_range(first, last, node))
    if node.kind is Kind.NUMBER or re.fullmatch(r"[+-]?[0-9][0-9.:]*", what):
        number = fields.port_number(what, node, "the port")
        return PortSpec(protocol or "tcp", number, number)
    return PortSpec(protocol, name=fields.port_name(what, node))

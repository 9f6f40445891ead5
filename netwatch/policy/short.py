"""The short forms in a Segment: labels, peers and ports as a person writes them.

Labels: `{app: web, tier: [a, b]}` or `app=web, tier in (a, b), env!=dev, has(team), !has(old)`.
Peers: labels; `{namespace: pay, labels: {app: web}}`; `host`; `internet`; `anyone`; an address or
CIDR; `{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}`; behind `to` a DNS name, `www.example.com` or
`*.example.com` for every name below it; or a list of those.
Ports: `5432`, `5432/udp`, `8000-8010`, `https`, `*/udp`, or a list of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from netwatch.policy import fields, port_fields
from netwatch.policy.edits import instead, plain, without
from netwatch.policy.ir import (
    EVERYTHING,
    HostPeer,
    InternetPeer,
    NamePeer,
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
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{_LABEL}(\.{_LABEL})+\.?")


def named_namespace(names: Iterable[str]) -> Selector:
    """The selector of the namespaces with one of these names."""
    return Selector((Requirement(fields.NAMESPACE_NAME, Operator.IN, frozenset(names)),))


def read_labels(node: Node, what: str) -> Selector:
    """Labels in either of the two forms; `{}` selects everything."""
    if node.kind is Kind.TEXT:
        return Selector(tuple(_term(term, node, what) for term in _terms(node.text)))
    fields.mapping(node, what, example="{app: web}")
    return Selector(tuple(_entry(key, value) for key, value in node.entries))


def _entry(key: Node, value: Node) -> Requirement:
    label = fields.label_key(key.text, key, "the label")
    items = value.items if value.kind is Kind.LIST else (value,)
    if not items:
        raise invalid(
            value.place,
            f"the label {key.shown} has no value",
            "for example [web, api]",
            instead(value, "[web, api]"),
        )
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
    right = "{app: web}"
    hint = f"write {right}, tier in (a, b), env!=dev or has(team), with commas between"
    if re.fullmatch(r"[\w.-]+", term):
        right = f"{{app: {plain(fields.cleaned(term))}}}"
        hint = f"did you mean {right}?"
    raise invalid(
        node.place, f"{what} is {node.shown}, which is no label", hint, instead(node, right)
    )


def read_peers(node: Node, what: str) -> tuple[PeerSpec, ...]:
    """One peer or a list of them; `anyone` gives none, which means everybody."""
    if node.kind is not Kind.LIST:
        return () if _is_anyone(node) else (_peer(node, what),)
    if not node.items:
        raise invalid(
            node.place,
            f"{what} lists nobody",
            "for everybody write anyone",
            instead(node, "anyone"),
        )
    for item in node.items:
        if _is_anyone(item) and len(node.items) > 1:
            raise invalid(
                node.place,
                "anyone stands beside others",
                "leave the others out: anyone",
                instead(node, "anyone"),
            )
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
            instead(node, "{app: web}"),
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
        if "cidr" not in entries:
            raise fields.lacks(node, "the peer has except, and no cidr", "cidr", "10.0.0.0/8")
        other = next(key for key in entries if key not in ("cidr", "except"))
        raise invalid(
            node.place,
            "a peer that is a network has cidr and except, and nothing else",
            f"leave {other} out, or make two peers of it",
            without(node, other),
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
        hint = "for every namespace write any"
        raise invalid(node.place, "namespace lists none", hint, instead(node, "any"))
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
        if what != "to":
            raise invalid(
                node.place,
                f"{what} is the DNS name {node.shown}, and only a destination is known by one",
                "write its network, or internet",
                instead(node, "internet"),
            )
        return NamePeer(text.lower().rstrip("."))
    right = fields.nearest(text, ("host", "internet", "anyone"))
    hint = f"did you mean {right}?"
    if right is None:
        right = f"{{app: {plain(fields.cleaned(text))}}}"
        hint = f"labels are written {right}; other peers: host, internet, anyone, 10.0.0.0/8"
    raise invalid(
        node.place, f"{what} is {node.shown}, which names no peer", hint, instead(node, right)
    )


def read_ports(node: Node) -> tuple[PortSpec, ...]:
    """One port or a list of them."""
    if node.kind is not Kind.LIST:
        return (_port(node),)
    if not node.items:
        hint = "for every port leave ports out; for one write 443"
        raise invalid(node.place, "ports lists none", hint, instead(node, "443"))
    return tuple(_port(item) for item in node.items)


def _port(node: Node) -> PortSpec:
    if node.kind not in (Kind.TEXT, Kind.NUMBER):
        hint = "for example 443, 53/udp or https"
        raise invalid(node.place, f"the port is {node.shown}", hint, instead(node, "443"))
    what, slash, spelling = node.text.partition("/")
    protocol = None
    if slash:
        if spelling not in _PROTOCOLS:
            known = [name.lower() for name in fields.PROTOCOLS]
            named = what if re.fullmatch(r"[1-9][0-9]{0,3}|\*|[a-z][a-z-]{0,14}", what) else "443"
            right = f"{named}/{fields.nearest(spelling, known) or known[0]}"
            raise invalid(
                node.place,
                f"the port {node.shown} names no protocol",
                f"did you mean {right}?",
                instead(node, plain(right)),
            )
        protocol = _PROTOCOLS[spelling]
    if what == "*" and protocol:
        return PortSpec(protocol)
    if what.lower() in ("icmp", "icmpv6", "ping"):
        hint = "a rule without ports allows ICMP too; with ports write 443, say"
        raise invalid(node.place, f"{what} has no ports", hint, instead(node, "443"))
    if match := _RANGE.fullmatch(what):
        first, last = (port_fields.port_number(end, node, "the port") for end in match.groups())
        return PortSpec(protocol or "tcp", *port_fields.port_range(first, last, node))
    if match := re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", what):
        first, last = sorted(map(int, match.groups()))
        right = f"{max(first, 1)}-{min(max(last, 1), port_fields.LAST_PORT)}"
        raise invalid(
            node.place,
            f"the port is {node.shown}, but a range has a '-'",
            f"did you mean {right}?",
            instead(node, right),
        )
    if node.kind is Kind.NUMBER or re.fullmatch(r"[+-]?[0-9][0-9.:]*", what):
        number = port_fields.port_number(what, node, "the port")
        return PortSpec(protocol or "tcp", number, number)
    return PortSpec(protocol, name=port_fields.port_name(what, node))

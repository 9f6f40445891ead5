"""Reads Cilium's policies (cilium.io/v2) as ours: allows, denies that win, and default deny.

A CIDR of Cilium never means a pod, and ours does: so the addresses of the world's workloads are
taken out of each, which holds for this world.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import collapse_addresses, ip_address, ip_network

from netwatch.policy import fields, port_fields
from netwatch.policy.cilium import NAMESPACE_KEY, NAMESPACE_LABEL
from netwatch.policy.edits import instead
from netwatch.policy.foreign import Named, known_only, middle, no_equal, opened
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    HostPeer,
    Mode,
    NamePeer,
    NetworkPeer,
    Operator,
    PeerSpec,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Selector,
    WorkloadPeer,
    World,
)
from netwatch.policy.network_policy import read_selector
from netwatch.policy.nodes import Kind, Node, invalid, shorten

GLOBAL = ("CiliumClusterwideNetworkPolicy",)
KINDS = ("CiliumNetworkPolicy", *GLOBAL)
_SECTIONS = ("ingress", "ingressDeny", "egress", "egressDeny")
_OF_SPEC = ("endpointSelector", *_SECTIONS, "enableDefaultDeny", "description", "labels")
_NO_SPEC = {"nodeSelector": "leave it out: hosts are not governed", "log": "leave it out"}
_L7 = "leave it out: paths, methods and names in a protocol are not judged"
_NO_RULE = {
    "icmps": "leave it out; a rule without ports allows ICMP too",
    "authentication": "write a Segment with require: encrypted",
    **{f"{end}Requires": "write it into endpointSelector" for end in ("from", "to")},
    **{f"{end}Groups": "name networks: CIDRSet" for end in ("from", "to")},
    **{f"{end}Nodes": "name the addresses of the nodes: CIDR" for end in ("from", "to")},
    "toServices": "select the workloads behind it: toEndpoints",
}
_NO_PORTS = {
    "rules": _L7,
    "terminatingTLS": _L7,
    "originatingTLS": _L7,
    "serverNames": _L7,
    "listener": _L7,
}
_ANY = "ANY"


def read_cilium(nodes: Sequence[Node], world: World) -> Iterator[Policy]:
    """What these documents say; raises InvalidDocument for what has no equal."""
    for node in nodes:
        named = opened(node, global_kinds=GLOBAL, also=("specs",))
        entries = {key.text: value for key, value in node.entries}
        listed = entries.get("specs")
        if listed is None or listed.kind is Kind.NULL:
            yield _Reader(named, world).policy(named.spec, named.name)
            continue
        for number, spec in enumerate(fields.sequence(listed, "specs", "[{}]"), 1):
            yield _Reader(named, world).policy(spec, f"{named.name}-{number}")


class _Reader:
    """Reads one spec of one document."""

    def __init__(self, named: Named, world: World) -> None:
        self._named = named
        self._world = world

    def policy(self, spec: Node, name: str) -> Policy:
        """The document that this spec becomes."""
        entries = known_only(spec, "spec", _OF_SPEC, _NO_SPEC)
        if "endpointSelector" not in entries:
            raise fields.lacks(spec, "the spec selects nobody", "endpointSelector", "{}")
        space, subject = self._split(entries["endpointSelector"], "endpointSelector")
        named = self._named
        if space is not None:
            named = _narrowed(named, space, entries["endpointSelector"])
        stated: dict[str, Node] = {}
        if "enableDefaultDeny" in entries:
            given = entries["enableDefaultDeny"]
            stated = fields.mapping(given, "enableDefaultDeny", ("ingress", "egress"))
        sides: dict[str, tuple[Rule, ...]] = {}
        isolates = []
        for word in ("ingress", "egress"):
            found = [(key, entries[key]) for key in (word, f"{word}Deny") if key in entries]
            written = any(node.items for _, node in found)
            isolates.append(fields.boolean(stated[word], word) if word in stated else written)
            sides[word] = tuple(
                rule
                for key, node in found
                for item in fields.sequence(node, key, "[{}]")
                for rule in self._rule(item, word, denies=key.endswith("Deny"))
            )
        return middle(
            named,
            name,
            subject=subject,
            mode=Mode.ENFORCE,
            isolates=(isolates[0], isolates[1]),
            ingress=sides["ingress"],
            egress=sides["egress"],
        )

    def _rule(self, node: Node, word: str, *, denies: bool) -> Iterator[Rule]:
        end = "from" if word == "ingress" else "to"
        kinds = [f"{end}{what}" for what in ("Endpoints", "CIDR", "CIDRSet", "Entities")]
        if word == "egress":
            kinds.append("toFQDNs")
        entries = known_only(node, "the rule", (*kinds, "toPorts"), _NO_RULE)
        given = [key for key in kinds if key in entries]
        if len(given) > 1:
            raise no_equal(
                entries[given[1]], f"{given[1]} beside {given[0]}", "make two rules of it"
            )
        ports = tuple(self._ports(entries.get("toPorts")))
        if not given and not ports:
            return  # Cilium: such a rule allows nothing
        peers: list[PeerSpec] = []
        for item in fields.sequence(entries[given[0]], given[0], "[]") if given else ():
            found = self._peer(item, given[0].removeprefix(end), denies=denies)
            if found is None:
                peers = []
                break
            peers.extend(found)
        else:
            if given and not peers:
                return
        yield Rule(node.place, tuple(peers), ports, Action.DENY if denies else Action.ALLOW)

    def _peer(self, node: Node, what: str, *, denies: bool) -> tuple[PeerSpec, ...] | None:
        """One peer, or none where it is nobody; None is everybody."""
        if what == "Endpoints":
            space, workloads = self._split(node, "the peer")
            if space is None and self._named.namespace is None:
                space = EVERYTHING
            return (WorkloadPeer(workloads, space),)
        if what == "CIDR":
            return self._outside(fields.network_peer(node, None, strict=False))
        if what == "CIDRSet":
            block = known_only(
                node, "the item", ("cidr", "except"), {"cidrGroupRef": "name its CIDRs"}
            )
            if "cidr" not in block:
                raise fields.lacks(node, "the item has no cidr", "cidr", "10.0.0.0/8")
            return self._outside(
                fields.network_peer(block["cidr"], block.get("except"), strict=False)
            )
        if what == "FQDNs":
            return (_name(node, denies=denies),)
        return _entity(node)

    def _outside(self, peer: NetworkPeer) -> tuple[NetworkPeer, ...]:
        """Without the workloads' addresses, and without those exceptions that these are in."""
        outer = ip_network(peer.cidr)
        inside = [
            ip_network(address)
            for workload in self._world.workloads
            for address in workload.addresses
            if ip_address(address) in outer
        ]
        if not inside:
            return (peer,)
        taken = [*map(ip_network, peer.excepts), *inside]
        v4 = [part for part in taken if part.version == 4]
        v6 = [part for part in taken if part.version == 6]
        kept = (*collapse_addresses(v4), *collapse_addresses(v6))
        if outer in kept:
            return ()
        return (NetworkPeer(peer.cidr, tuple(map(str, kept))),)

    def _split(self, node: Node, what: str) -> tuple[Selector | None, Selector]:
        """What is said of the namespace, None if nothing, and of the workload."""
        of_space: list[Requirement] = []
        of_workload: list[Requirement] = []
        said = False
        for each in read_selector(_plain_keys(node, what), what).requirements:
            key = each.key
            if key == NAMESPACE_KEY:
                said = True
                if each.operator is not Operator.EXISTS:
                    of_space.append(Requirement(fields.NAMESPACE_NAME, each.operator, each.values))
            elif key.startswith(NAMESPACE_LABEL):
                said = True
                of_space.append(
                    Requirement(key.removeprefix(NAMESPACE_LABEL), each.operator, each.values)
                )
            elif key.startswith("io.cilium.") or key.startswith("io.kubernetes."):
                raise no_equal(node, f"the label {shorten(key)}", "select by labels of the pod")
            else:
                of_workload.append(each)
        return (Selector(tuple(of_space)) if said else None), Selector(tuple(of_workload))

    def _ports(self, node: Node | None) -> Iterator[PortSpec]:
        for item in fields.sequence(node, "toPorts", "[{ports: []}]"):
            entries = known_only(item, "the item of toPorts", ("ports",), _NO_PORTS)
            for port in fields.sequence(entries.get("ports"), "ports", "[]"):
                yield from _port(port)


def _name(node: Node, *, denies: bool) -> NamePeer:
    refused = {"matchPattern": "write a Segment with to: '*.example.com'"}
    names = known_only(node, "the item", ("matchName",), refused)
    if "matchName" not in names or denies:
        raise fields.lacks(node, "the item has no matchName", "matchName", "www.example.com")
    text = fields.string(names["matchName"], "matchName", "www.example.com")
    return NamePeer(text.lower().rstrip("."))


def _entity(node: Node) -> tuple[HostPeer] | None:
    word = fields.string(node, "an entity", "all")
    if word in ("all", "host"):
        return None if word == "all" else (HostPeer(),)
    hint = "write fromEndpoints, with io.kubernetes.pod.namespace for those of another namespace"
    if word.startswith("world"):
        hint = "write CIDR 0.0.0.0/0; a Segment's `internet` leaves private networks out"
    raise no_equal(node, f"the entity {shorten(word)}", hint)


def _narrowed(named: Named, space: Selector, node: Node) -> Named:
    """A cluster-wide document about one namespace is one of that namespace."""
    if space == EVERYTHING:
        return named
    only = space.requirements[0]
    one = (
        only.key == fields.NAMESPACE_NAME
        and only.operator is Operator.IN
        and len(only.values) == 1
    )
    if len(space.requirements) != 1 or not one:
        raise no_equal(
            node,
            "a subject in namespaces by their labels",
            "name one namespace: io.kubernetes.pod.namespace: shop",
        )
    (name,) = only.values
    if named.namespace not in (None, name):
        raise no_equal(node, "a subject in another namespace", f"put it into {named.namespace}")
    return Named(named.kind, named.name, name, named.spec, named.node)


def _plain_keys(node: Node, what: str) -> Node:
    """The selector with `k8s:` and `any:` taken off its keys; other sources are refused."""
    fields.mapping(node, what)
    return _stripped(node)


def _stripped(node: Node) -> Node:
    if node.kind is Kind.LIST:
        return replace(node, items=tuple(map(_stripped, node.items)))
    entries = []
    for key, value in node.entries:
        if key.text == "key" and value.kind is Kind.TEXT:
            value = replace(value, text=_bare(value))
        elif value.kind in (Kind.MAPPING, Kind.LIST) and key.text != "values":
            value = _stripped(value)
        entries.append((replace(key, text=_bare(key)), value))
    return replace(node, entries=tuple(entries)) if node.kind is Kind.MAPPING else node


def _bare(node: Node) -> str:
    source, colon, key = node.text.partition(":")
    if not colon:
        return node.text
    if source not in ("k8s", "any"):
        raise no_equal(node, f"the label {shorten(node.text)}", "select by labels of the pod: app")
    return key


def _port(node: Node) -> Iterator[PortSpec]:
    entries = fields.mapping(node, "the port", ("port", "endPort", "protocol"), needed=("port",))
    spelt = {**port_fields.LOWER, **{p: p for p in port_fields.LOWER.values()}}
    protocols = list(port_fields.LOWER.values())
    said = entries.get("protocol")
    if said is not None and said.text.upper() != _ANY:
        protocols = [port_fields.protocol(said, known=spelt)]
    if "port" not in entries:
        raise fields.lacks(node, "the port has no number", "port", '"443"')
    port = entries["port"]
    if port.kind is Kind.NUMBER:
        raise invalid(
            port.place,
            f"port is {port.text}, but Cilium writes it as text",
            f'write "{port.text[:5]}"',
            instead(port, f'"{port.text[:5]}"'),
        )
    for protocol in protocols:
        yield _spec(port, entries.get("endPort"), protocol)


def _spec(port: Node, end: Node | None, protocol: str) -> PortSpec:
    if port.text == "0":
        return PortSpec(protocol)
    if not port.text.isdigit():
        return PortSpec(protocol, name=port_fields.port_name(port.text, port))
    first = port_fields.port_number(port.text, port, "port")
    last = first if end is None else port_fields.number(end, "endPort")
    return PortSpec(protocol, first, last or first)

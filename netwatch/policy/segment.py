"""Reads the spec of a Segment, the native document: what a security team writes by hand.

apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  governs: {app: db}
  rules:
    - from: {app: api}
      ports: 5432
      because: the api keeps its orders there
"""

from __future__ import annotations

import re
from datetime import date, timedelta

from netwatch.model.times import nanoseconds, rfc3339
from netwatch.policy import fields
from netwatch.policy.fields import Problems
from netwatch.policy.ir import (
    EVERYTHING,
    Action,
    Mode,
    PeerSpec,
    Place,
    Policy,
    PortSpec,
    Rule,
    Selector,
    WorkloadPeer,
)
from netwatch.policy.nodes import Kind, Node, invalid, shorten
from netwatch.policy.short import (
    named_namespace,
    read_labels,
    read_peers,
    read_ports,
)

_SPEC_KEYS = ("governs", "mode", "scope", "ingress", "egress", "rules")
_RULE_KEYS = (
    "from",
    "to",
    "ports",
    "deny",
    "exception",
    "require",
    "because",
    "owner",
    "ticket",
    "expires",
    "name",
)
_OBLIGATION = re.compile(r"encrypted|link-encrypted|tls>=1\.[0-3]")


def read_segment(
    spec: Node, *, name: str, namespace: str | None, mode: Mode | None, place: Place
) -> Policy:
    """The policy that `spec` describes; raises InvalidDocument or InvalidPolicies."""
    entries = fields.mapping(spec, "spec", _SPEC_KEYS)
    problems = Problems()
    subject = EVERYTHING
    everywhere = False
    rules: list[tuple[str, Rule]] = []
    stated: dict[str, bool | None] = {"ingress": None, "egress": None}
    with problems.collected():
        subject = _governs(spec, entries.get("governs"))
    with problems.collected():
        everywhere = _scope(entries.get("scope"))
    with problems.collected():
        mode = _mode(entries.get("mode"), mode)
    for direction in stated:
        with problems.collected():
            stated[direction] = _isolation(entries.get(direction), direction)
    own = namespace if everywhere else namespace or "default"
    for node in _rule_nodes(entries.get("rules"), problems):
        with problems.collected():
            rules.append(_rule(node, own=own, everywhere=everywhere))
    problems.raise_any()
    ingress = tuple(rule for key, rule in rules if key == "from")
    egress = tuple(rule for key, rule in rules if key == "to")
    return Policy(
        "Segment",
        name,
        None if everywhere else own,
        subject,
        mode or Mode.ENFORCE,
        place,
        isolates_ingress=_or_else(stated["ingress"], bool(ingress)),
        isolates_egress=_or_else(stated["egress"], bool(egress)),
        ingress=ingress,
        egress=egress,
    )


def _or_else(stated: bool | None, default: bool) -> bool:
    return default if stated is None else stated


def _governs(spec: Node, node: Node | None) -> Selector:
    if node is None:
        raise invalid(
            spec.place,
            "the Segment does not say whom it governs",
            "add governs: {app: web}, or governs: all",
        )
    if node.kind is Kind.TEXT and node.text == "all":
        return EVERYTHING
    return read_labels(node, "governs")


def _scope(node: Node | None) -> bool:
    return node is not None and fields.choice(node, "scope", ("all", "namespace")) == "all"


def _mode(node: Node | None, annotated: Mode | None) -> Mode | None:
    if node is None:
        return annotated
    if annotated is not None:
        raise invalid(
            node.place,
            "mode is stated here and in the annotation netwatch/mode",
            "keep the one in spec",
        )
    return Mode(fields.choice(node, "mode", tuple(Mode)))


def _isolation(node: Node | None, direction: str) -> bool | None:
    if node is None:
        return None
    return fields.choice(node, direction, ("isolated", "open")) == "isolated"


def _rule_nodes(node: Node | None, problems: Problems) -> tuple[Node, ...]:
    with problems.collected():
        return fields.sequence(node, "rules")
    return ()


def _rule(node: Node, *, own: str | None, everywhere: bool) -> tuple[str, Rule]:
    """The rule, and whether it says `from` or `to`."""
    for key, value in node.entries:
        if value.kind is Kind.NULL and key.text in ("from", "to", "ports"):
            raise invalid(
                key.place,
                f"{key.text} names nothing",
                "for everybody write anyone; for every port leave ports out",
            )
    entries = fields.mapping(node, "the rule", _RULE_KEYS)
    ends = [key for key in ("from", "to") if key in entries]
    if len(ends) != 1:
        raise invalid(
            node.place,
            "the rule says both from and to" if ends else "the rule says neither from nor to",
            "a rule is about one direction: from: {app: web}, or to: {app: web}",
        )
    problems = Problems()
    peers: tuple[PeerSpec, ...] = ()
    expires = obligation = None
    ports: tuple[PortSpec, ...] = ()
    with problems.collected():
        peers = read_peers(entries[ends[0]], ends[0])
        peers = tuple(_placed(peer, entries[ends[0]], own, everywhere) for peer in peers)
    with problems.collected():
        ports = read_ports(entries["ports"]) if "ports" in entries else ()
    with problems.collected():
        expires = _expiry(entries.get("expires"))
    with problems.collected():
        obligation = _obligation(entries.get("require"))
    with problems.collected():
        _check_exception(node, entries)
    problems.raise_any()
    texts = {key: _words(entries.get(key), key) for key in ("because", "owner", "ticket", "name")}
    deny = fields.boolean(entries.get("deny"), "deny")
    rule = Rule(
        node.place,
        peers,
        ports,
        Action.DENY if deny else Action.ALLOW,
        exception=fields.boolean(entries.get("exception"), "exception"),
        expires=expires,
        obligation=obligation,
        **texts,
    )
    return ends[0], rule


def _placed(peer: PeerSpec, node: Node, own: str | None, everywhere: bool) -> PeerSpec:
    """Labels without a namespace mean the Segment's own, and it must have one for that."""
    if not everywhere or not isinstance(peer, WorkloadPeer) or peer.namespaces is not None:
        return peer
    if own is None:
        raise invalid(
            node.place,
            "the peer names no namespace, and a Segment of scope: all has none of its own",
            "write {namespace: any, labels: {app: web}}, or name the namespace",
        )
    return WorkloadPeer(peer.workloads, named_namespace([own]))


def _check_exception(node: Node, entries: dict[str, Node]) -> None:
    deny = fields.boolean(entries.get("deny"), "deny")
    if deny and "require" in entries:
        raise invalid(
            entries["require"].place,
            "a rule that denies can not require anything",
            "leave require out, or deny",
        )
    if not fields.boolean(entries.get("exception"), "exception"):
        return
    if deny:
        raise invalid(
            entries["exception"].place,
            "an exception permits, and this rule denies",
            "leave deny: true out",
        )
    for needed, example in (("owner", "owner: team-shop"), ("expires", "expires: 2030-01-31")):
        if needed not in entries:
            raise invalid(node.place, f"the exception has no {needed}", f"add {example}")


def _words(node: Node | None, what: str) -> str | None:
    return None if node is None else fields.string(node, what, "a few words")


def _expiry(node: Node | None) -> int | None:
    """The moment from which the rule says nothing any more; a date holds until its end, in UTC."""
    if node is None:
        return None
    text = fields.string(node, "expires", "2030-01-31")
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            end = date.fromisoformat(text) + timedelta(days=1)
            text = f"{end.isoformat()}T00:00:00Z"
        moment = nanoseconds(text)
        rfc3339(moment)
        return moment
    except (ValueError, OverflowError):
        raise invalid(
            node.place,
            f"expires is {node.shown}, which is no time",
            "write a date, 2030-01-31, or a time, 2030-01-31T18:00:00Z",
        ) from None


def _obligation(node: Node | None) -> str | None:
    if node is None:
        return None
    text = "".join(fields.string(node, "require", "tls>=1.2").split()).lower()
    if not _OBLIGATION.fullmatch(text):
        raise invalid(
            node.place,
            f"require is {shorten(node.shown)}",
            "known: encrypted, link-encrypted, tls>=1.2 (1.0 to 1.3)",
        )
    return text

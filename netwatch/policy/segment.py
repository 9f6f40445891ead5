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
from netwatch.policy.edits import added, instead, without, written
from netwatch.policy.fields import Problems
from netwatch.policy.ir import (
    EVERYTHING,
    LINK_ENCRYPTED,
    Action,
    Mode,
    NamePeer,
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
EXAMPLE = "{governs: {app: web}}"
_OF_EXCEPTIONS = {"owner": "team-shop", "expires": "2030-01-31"}
_RULE_KEYS = (
    "from",
    "to",
    "ports",
    "deny",
    "exception",
    "require",
    "strict",
    "because",
    "owner",
    "ticket",
    "expires",
    "name",
)
_OBLIGATIONS = ("encrypted", "link-encrypted", "tls>=1.2", "tls>=1.3")
_OBLIGATION = re.compile(r"encrypted|link-encrypted|tls>=1\.[0-3]")


def read_segment(
    spec: Node, *, name: str, namespace: str | None, mode: Mode | None, place: Place
) -> Policy:
    """The policy that `spec` describes; raises InvalidDocument or InvalidPolicies."""
    entries = fields.mapping(spec, "spec", _SPEC_KEYS, needed=("governs",), example=EXAMPLE)
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
        mode = _mode(spec, entries.get("mode"), mode)
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
        message = "the Segment does not say whom it governs"
        raise fields.lacks(spec, message, "governs", "{app: web}")
    if node.kind is Kind.TEXT and node.text == "all":
        return EVERYTHING
    return read_labels(node, "governs")


def _scope(node: Node | None) -> bool:
    return node is not None and fields.choice(node, "scope", ("all", "namespace")) == "all"


def _mode(spec: Node, node: Node | None, annotated: Mode | None) -> Mode | None:
    if node is None:
        return annotated
    if annotated is not None:
        raise invalid(
            node.place,
            "mode is stated here and in the annotation netwatch/mode",
            "leave this one out, or the annotation",
            without(spec, "mode"),
        )
    return Mode(fields.choice(node, "mode", tuple(Mode)))


def _isolation(node: Node | None, direction: str) -> bool | None:
    if node is None:
        return None
    return fields.choice(node, direction, ("isolated", "open")) == "isolated"


def _rule_nodes(node: Node | None, problems: Problems) -> tuple[Node, ...]:
    with problems.collected():
        return fields.sequence(node, "rules", "[{from: {app: web}}]")
    return ()


def _rule(node: Node, *, own: str | None, everywhere: bool) -> tuple[str, Rule]:
    """The rule, and whether it says `from` or `to`."""
    for key, value in node.entries:
        if value.kind is Kind.NULL and key.text in ("from", "to", "ports"):
            right = "443" if key.text == "ports" else "anyone"
            raise invalid(
                key.place,
                f"{key.text} names nothing",
                f"for everybody write anyone; for every port leave ports out; or write {right}",
                instead(value, right),
            )
    ends = [word for word in ("from", "to") if word in [key.text for key, _ in node.entries]]
    needed = () if ends else ("from",)
    example = "{from: {app: web}}"
    entries = fields.mapping(node, "the rule", _RULE_KEYS, needed=needed, example=example)
    if len(ends) != 1:
        raise invalid(
            node.place,
            "the rule says both from and to" if ends else "the rule says neither from nor to",
            "a rule is about one direction: leave to out"
            if ends
            else "add from: {app: web}, or to: {app: web}",
            without(node, "to") if ends else added(node, "from", "{app: web}"),
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
    with problems.collected():
        _check_strict(node, entries)
    problems.raise_any()
    texts = {key: _words(entries.get(key), key) for key in ("because", "owner", "ticket", "name")}
    deny = fields.boolean(entries.get("deny"), "deny")
    if deny and any(isinstance(peer, NamePeer) for peer in peers):
        raise invalid(
            entries["deny"].place,
            "a rule that denies names a DNS name, and not every address of a name is known",
            "allow the names, or deny networks: leave deny out",
            without(node, "deny"),
        )
    rule = Rule(
        node.place,
        peers,
        ports,
        Action.DENY if deny else Action.ALLOW,
        exception=fields.boolean(entries.get("exception"), "exception"),
        expires=expires,
        obligation=obligation,
        strict=fields.boolean(entries.get("strict"), "strict"),
        **texts,
    )
    return ends[0], rule


def _placed(peer: PeerSpec, node: Node, own: str | None, everywhere: bool) -> PeerSpec:
    """Labels without a namespace mean the Segment's own, and it must have one for that."""
    if not everywhere or not isinstance(peer, WorkloadPeer) or peer.namespaces is not None:
        return peer
    if own is None:
        labels = written(node) if node.kind is not Kind.LIST else "{app: web}"
        right = f"{{namespace: any, labels: {labels}}}"
        raise invalid(
            node.place,
            "the peer names no namespace, and a Segment of scope: all has none of its own",
            f"write {right}, or name the namespace",
            instead(node, right),
        )
    return WorkloadPeer(peer.workloads, named_namespace([own]))


def _check_strict(node: Node, entries: dict[str, Node]) -> None:
    if not fields.boolean(entries.get("strict"), "strict"):
        return
    said = "".join(entries["require"].text.split()).lower() if "require" in entries else None
    if said is None or said == LINK_ENCRYPTED:
        raise invalid(
            entries["strict"].place,
            "strict is about what is required of a connection, and nothing is",
            "leave strict out, or add require: tls>=1.2",
            without(node, "strict"),
        )


def _check_exception(node: Node, entries: dict[str, Node]) -> None:
    deny = fields.boolean(entries.get("deny"), "deny")
    if deny and "require" in entries:
        raise invalid(
            entries["require"].place,
            "a rule that denies can not require anything",
            "leave require out",
            without(node, "require"),
        )
    if not fields.boolean(entries.get("exception"), "exception"):
        return
    if deny:
        raise invalid(
            entries["exception"].place,
            "an exception permits, and this rule denies",
            "leave deny: true out, or exception",
            without(node, "exception"),
        )
    problems = Problems()
    for key, value in _OF_EXCEPTIONS.items():
        if key not in entries:
            with problems.collected():
                raise fields.lacks(node, f"the exception has no {key}", key, value)
    problems.raise_any()


def _words(node: Node | None, what: str) -> str | None:
    return None if node is None else fields.string(node, what, "a few words")


def _expiry(node: Node | None) -> int | None:
    """The moment from which the rule says nothing any more; a date holds until its end, in UTC."""
    if node is None:
        return None
    text = fields.string(node, "expires", "2030-01-31", quotable=False)
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
            f"write a date, 2030-01-31, or a time: {_near_time(node.text)}",
            instead(node, _near_time(node.text)),
        ) from None


def _near_time(text: str) -> str:
    """The time that lacks only its zone, else a day that is one."""
    match = re.match(r"(\d{4}-\d\d-\d\d)(T\d\d:\d\d:\d\d)?", text, re.ASCII)
    for near in (f"{match[0]}Z", match[1]) if match else ():
        try:
            if "T" in near:
                rfc3339(nanoseconds(near))
            else:
                date.fromisoformat(near)
            return near
        except (ValueError, OverflowError):
            continue
    return "2030-01-31"


def _obligation(node: Node | None) -> str | None:
    if node is None:
        return None
    text = "".join(fields.string(node, "require", "tls>=1.2", quotable=False).split()).lower()
    if not _OBLIGATION.fullmatch(text):
        raise invalid(
            node.place,
            f"require is {shorten(node.shown)}",
            "known: encrypted, link-encrypted, tls>=1.2 (1.0 to 1.3)",
            instead(node, fields.nearest(text, _OBLIGATIONS) or "encrypted"),
        )
    return text

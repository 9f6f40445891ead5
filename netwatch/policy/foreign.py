"""Reads Kubernetes, Calico and Cilium documents into ours: what `policy import` takes over.

What has no equal here is refused with file, line, column and what would be right; what comes out
stricter or wider than it was is told in `notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from netwatch.model.errors import InvalidDocument
from netwatch.policy import fields
from netwatch.policy.document import METADATA_KEYS
from netwatch.policy.edits import without
from netwatch.policy.ir import (
    Action,
    HostPeer,
    Mode,
    NetworkPeer,
    Place,
    Policy,
    Rule,
    Selector,
    WorkloadPeer,
)
from netwatch.policy.nodes import Kind, Node, invalid

KEYS = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class Named:
    """What every document begins with."""

    kind: str
    name: str
    namespace: str | None
    spec: Node
    node: Node

    @property
    def place(self) -> Place:
        """Where the document stands."""
        return self.node.place


def entry(node: Node, key: str) -> str | None:
    """The text of one key of a mapping, if it is text."""
    for known, value in node.entries:
        if known.text == key and value.kind is Kind.TEXT:
            return value.text
    return None


def opened(node: Node, *, global_kinds: Iterable[str], also: Sequence[str] = ()) -> Named:
    """Kind, name, namespace and spec of a document; raises InvalidDocument."""
    entries = fields.mapping(node, "the document", (*KEYS, *also, "status"), needed=KEYS)
    kind = entry(node, "kind") or ""
    for key, right in (("metadata", "{name: web}"), ("spec", "{}")):
        if key not in entries:
            raise fields.lacks(node, f"the {kind} has no {key}", key, right)
    metadata = fields.mapping(entries["metadata"], "metadata", METADATA_KEYS, needed=("name",))
    if "name" not in metadata:
        raise fields.lacks(entries["metadata"], "metadata has no name", "name", "web")
    namespace: str | None = "default"
    if "namespace" in metadata:
        namespace = fields.name(metadata["namespace"], "metadata.namespace")
    if kind in global_kinds:
        namespace = None
    name = fields.name(metadata["name"], "metadata.name")
    return Named(kind, name, namespace, entries["spec"], node)


def known_only(
    node: Node, what: str, known: Sequence[str], refused: Mapping[str, str]
) -> dict[str, Node]:
    """The entries of a mapping; `refused` gives for what has no equal here what would be right."""
    fields.mapping(node, what)
    for key, value in node.entries:
        if key.text in refused and value.kind is not Kind.NULL:
            raise invalid(
                key.place,
                f"{what} says {key.text}, which has no equal here",
                refused[key.text],
                without(node, key.text),
            )
    return fields.mapping(node, what, known)


def no_equal(node: Node, what: str, hint: str) -> InvalidDocument:
    """The error that what stands here has no equal."""
    return invalid(node.place, f"{what} has no equal here", hint)


def middle(
    named: Named,
    name: str,
    *,
    subject: Selector,
    mode: Mode,
    isolates: tuple[bool, bool],
    ingress: Sequence[Rule],
    egress: Sequence[Rule],
) -> Policy:
    """A NetworkPolicy where it can say that, else a Segment.

    Both of the other systems let the host in to its workloads; so does a NetworkPolicy, and a
    Segment is told to.
    """
    upstream = named.namespace is not None and all(
        rule.action is Action.ALLOW
        and all(isinstance(peer, WorkloadPeer | NetworkPeer) for peer in rule.peers)
        and all(port.protocol is not None for port in rule.ports)
        for rule in (*ingress, *egress)
    )
    upstream = upstream and all(
        isolated or not rules for isolated, rules in zip(isolates, (ingress, egress), strict=True)
    )
    upstream = upstream and any(isolates)
    if not upstream and isolates[0]:
        ingress = (*ingress, Rule(named.place, (HostPeer(),)))
    return Policy(
        "NetworkPolicy" if upstream else "Segment",
        name,
        named.namespace,
        subject,
        mode,
        named.place,
        isolates_ingress=isolates[0],
        isolates_egress=isolates[1],
        ingress=tuple(ingress),
        egress=tuple(egress),
    )

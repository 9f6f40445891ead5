"""Turns the text of a file into policies, whole or not at all.

A file holds any number of documents, YAML or JSON, and a `List` of them counts as its items. Every
error of every document is collected, and then nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from netwatch.model.errors import InvalidDocument, Replacement
from netwatch.policy import admin_network_policy as admin
from netwatch.policy import cluster_network_policy as cluster
from netwatch.policy import fields
from netwatch.policy.conflicts import conflicts
from netwatch.policy.edits import instead, without
from netwatch.policy.fields import MAX_PROBLEMS, InvalidPolicies, Problems
from netwatch.policy.ir import Mode, Place, Policy, Tier
from netwatch.policy.mending import TEMPLATE, mended
from netwatch.policy.network_policy import read_network_policy
from netwatch.policy.nodes import Kind, Node, invalid, read_nodes, shorten
from netwatch.policy.segment import read_segment
from netwatch.policy.tiers import MAX_PRIORITY

MODE_ANNOTATION = "netwatch/mode"
API_VERSIONS = {
    "Segment": "netwatch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    cluster.KIND: "policy.networking.k8s.io/v1alpha2",
    admin.KIND: "policy.networking.k8s.io/v1alpha1",
    admin.BASELINE_KIND: "policy.networking.k8s.io/v1alpha1",
}
SPECS = {
    "Segment": "{governs: {app: web}, rules: [{from: {app: api}}]}",
    "NetworkPolicy": "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
    cluster.KIND: cluster.SPEC,
    admin.KIND: admin.SPEC,
    admin.BASELINE_KIND: admin.BASELINE_SPEC,
}
"""The smallest that is right, of each kind."""
LISTS = ("List", *(f"{kind}List" for kind in API_VERSIONS))
OF_OTHERS = (
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
)
_TIER_READERS = {
    cluster.KIND: cluster.read_cluster_network_policy,
    admin.KIND: admin.read_admin_network_policy,
    admin.BASELINE_KIND: admin.read_baseline_admin_network_policy,
}
_DOCUMENT_KEYS = ("apiVersion", "kind", "metadata", "spec")
METADATA_KEYS = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "generateName",
    "selfLink",
)


def parse(text: str, file: str) -> tuple[Policy, ...]:
    """The policies in `text`; `file` is what messages call it.

    Raises InvalidPolicies (an InvalidDocument that holds every problem found) and nothing else.
    """
    problems = Problems()
    policies: list[Policy] = []
    try:
        roots = read_nodes(text, file)
    except InvalidDocument as error:
        raise InvalidPolicies([mended(error, text, _is_right)]) from None
    nodes: dict[Place, Node] = {}
    with problems.collected():
        for root in roots:
            for node in documents_of(root):
                with problems.collected():
                    policies.append(read_document(node))
                    nodes[node.place] = node
    with problems.collected():
        check_together(policies, nodes)
    problems.raise_any()
    return tuple(policies)


def _is_right(text: str) -> bool:
    try:
        for root in read_nodes(text, ""):
            for node in documents_of(root):
                read_document(node)
    except InvalidDocument:
        return False
    return True


def check_together(
    policies: Sequence[Policy], nodes: Mapping[Place, Node] = MappingProxyType({})
) -> None:
    """Raise InvalidPolicies for documents that can not stand side by side.

    Two of one kind and namespace with one name, or two of one tier and priority that disagree.
    `nodes` are documents by their places, for what would be right.
    """
    problems = Problems()
    seen: dict[tuple[str, str | None, str], Policy] = {}
    for policy in policies:
        first = seen.setdefault((policy.kind, policy.namespace, policy.name), policy)
        if first is not policy:
            free = f"{policy.name[:240]}-{len(seen)}"
            with problems.collected():
                raise invalid(
                    policy.place,
                    f"{policy.title} stands twice; the first is at {first.place}",
                    f"give one of the two another name, for example {free}",
                    _with(nodes.get(policy.place), "metadata", "name", free),
                )
    taken = {policy.priority for policy in policies if policy.tier is not Tier.MIDDLE}
    priority = next((n for n in range(MAX_PRIORITY, -1, -1) if n not in taken), 0)
    for error, policy in islice(conflicts(policies), MAX_PROBLEMS):
        error.hint = f"{error.hint}; {priority} is free"
        error.replacement = _with(nodes.get(policy.place), "spec", "priority", str(priority))
        problems.found.append(error)
    problems.raise_any()


def _with(document: Node | None, part: str, key: str, text: str) -> Replacement | None:
    """The document with another value of this key in metadata or spec."""
    for word, inner in document.entries if document else ():
        if word.text == part:
            return next((instead(v, text) for k, v in inner.entries if k.text == key), None)
    return None


def documents_of(node: Node) -> Iterator[Node]:
    """The documents of one root: itself, the items of its List, or of a bare list."""
    if node.kind is Kind.LIST:
        yield from node.items
    elif node.kind is Kind.MAPPING and _kind_of(node) in LISTS:
        known = ("apiVersion", "kind", "metadata", "items")
        entries = fields.mapping(node, "the List", known)
        yield from fields.sequence(entries.get("items"), "items", f"[{TEMPLATE}]")
    elif node.kind is not Kind.NULL:
        yield node


def _kind_of(node: Node) -> str | None:
    for key, value in node.entries:
        if key.text == "kind" and value.kind is Kind.TEXT:
            return value.text
    return None


def read_document(node: Node) -> Policy:
    """The policy that one node says; raises InvalidDocument or InvalidPolicies."""
    entries = fields.mapping(node, "the document", example=TEMPLATE)
    if "kind" in entries or "apiVersion" in entries:
        fields.mapping(node, "the document", (*_DOCUMENT_KEYS, "status"), needed=_DOCUMENT_KEYS)
    kind = _check_kind(node, entries)
    allowed = _DOCUMENT_KEYS if kind == "Segment" else (*_DOCUMENT_KEYS, "status")
    fields.mapping(node, f"the {kind}", allowed, needed=("spec",))
    problems = Problems()
    metadata = None
    with problems.collected():
        metadata = _metadata(node, entries.get("metadata"), kind)
    if "spec" not in entries:
        with problems.collected():
            raise fields.lacks(node, f"the {kind} has no spec", "spec", SPECS[kind])
    problems.raise_any()
    assert metadata is not None
    if kind in _TIER_READERS:
        return _TIER_READERS[kind](
            entries["spec"],
            name=metadata.name,
            mode=metadata.mode or Mode.ENFORCE,
            place=node.place,
        )
    if kind == "NetworkPolicy":
        return read_network_policy(
            entries["spec"],
            name=metadata.name,
            namespace=metadata.namespace or "default",
            mode=metadata.mode or Mode.ENFORCE,
            place=node.place,
        )
    return read_segment(
        entries["spec"],
        name=metadata.name,
        namespace=metadata.namespace,
        mode=metadata.mode,
        place=node.place,
    )


def _check_kind(node: Node, entries: dict[str, Node]) -> str:
    if "kind" not in entries:
        raise _without_kind(node, entries)
    kind = entries["kind"]
    if kind.text in OF_OTHERS:
        raise invalid(
            kind.place,
            f"{kind.text} is read by `netwatch policy import` only",
            f"import it, or write it as {TEMPLATE}; read here: {', '.join(API_VERSIONS)}",
            instead(node, TEMPLATE),
        )
    if kind.kind is not Kind.TEXT or kind.text not in API_VERSIONS:
        near = fields.nearest(kind.text, API_VERSIONS) or _kind_by_version(entries)
        raise invalid(
            kind.place,
            f"kind is {kind.shown}",
            f"did you mean {near}? known: {', '.join(API_VERSIONS)}",
            instead(kind, near),
        )
    wanted = API_VERSIONS[kind.text]
    version = entries.get("apiVersion")
    if version is None:
        raise fields.lacks(node, f"the {kind.text} has no apiVersion", "apiVersion", wanted)
    if version.text != wanted:
        raise invalid(
            version.place,
            f"apiVersion is {version.shown}, but a {kind.text} has {wanted}",
            f"write apiVersion: {wanted}",
            instead(version, wanted),
        )
    return kind.text


def _without_kind(node: Node, entries: dict[str, Node]) -> InvalidDocument:
    message = "the document has no kind"
    if "apiVersion" in entries:
        return fields.lacks(node, message, "kind", _kind_by_version(entries))
    return invalid(node.place, message, f"for example {TEMPLATE}", instead(node, TEMPLATE))


def _kind_by_version(entries: dict[str, Node]) -> str:
    """The kind of this apiVersion that the spec fits, else a Segment."""
    version = entries["apiVersion"].text if "apiVersion" in entries else None
    kinds = [kind for kind, known in API_VERSIONS.items() if known == version]
    spec = entries["spec"].entries if "spec" in entries else ()
    if admin.KIND in kinds and spec and all(key.text != "priority" for key, _ in spec):
        return admin.BASELINE_KIND
    return kinds[0] if kinds else "Segment"


def _a_name(kind: str) -> str:
    return admin.BASELINE_NAME if kind == admin.BASELINE_KIND else "web"


@dataclass(frozen=True, slots=True)
class _Metadata:
    name: str
    namespace: str | None
    mode: Mode | None


def _metadata(document: Node, node: Node | None, kind: str) -> _Metadata:
    if node is None:
        example = f"{{name: {_a_name(kind)}}}"
        raise fields.lacks(document, f"the {kind} has no metadata", "metadata", example)
    example = f"{{name: {_a_name(kind)}}}"
    entries = fields.mapping(node, "metadata", METADATA_KEYS, needed=("name",), example=example)
    if "name" not in entries:
        raise fields.lacks(node, "metadata has no name", "name", _a_name(kind))
    name = fields.name(entries["name"], "metadata.name")
    if kind == admin.BASELINE_KIND and name != admin.BASELINE_NAME:
        raise invalid(
            entries["name"].place,
            f"there is one {kind}, and its name is not {entries['name'].shown}",
            f"write name: {admin.BASELINE_NAME}; a {cluster.KIND} may have any name",
            instead(entries["name"], admin.BASELINE_NAME),
        )
    namespace = None
    if "namespace" in entries:
        if kind in _TIER_READERS:
            raise invalid(
                entries["namespace"].place,
                f"a {kind} is of no namespace",
                f"leave it out, and say in subject: {{namespaces: {{matchLabels:"
                f" {{{fields.NAMESPACE_NAME}: {entries['namespace'].shown}}}}}}}",
                without(node, "namespace"),
            )
        namespace = fields.name(entries["namespace"], "metadata.namespace")
    annotations: Sequence[tuple[Node, Node]] = ()
    if "annotations" in entries:
        fields.mapping(entries["annotations"], "annotations")
        annotations = entries["annotations"].entries
    return _Metadata(name, namespace, _mode(annotations))


def _mode(annotations: Sequence[tuple[Node, Node]]) -> Mode | None:
    mode = None
    for key, value in annotations:
        if key.text == MODE_ANNOTATION:
            mode = Mode(fields.choice(value, MODE_ANNOTATION, tuple(Mode)))
        elif key.text.startswith("netwatch/"):
            raise invalid(
                key.place,
                f"there is no annotation {shorten(repr(key.text))}",
                f"did you mean {MODE_ANNOTATION}?",
                instead(key, MODE_ANNOTATION),
            )
    return mode

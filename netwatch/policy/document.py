"""Turns the text of a file into policies, whole or not at all.

A file holds any number of documents, YAML or JSON, and a `List` of them counts as its items. Every
error of every document is collected, and then nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from netwatch.policy import admin_network_policy as admin
from netwatch.policy import cluster_network_policy as cluster
from netwatch.policy import fields
from netwatch.policy.conflicts import conflicts
from netwatch.policy.fields import MAX_PROBLEMS, Problems
from netwatch.policy.ir import Mode, Policy
from netwatch.policy.network_policy import read_network_policy
from netwatch.policy.nodes import Kind, Node, invalid, read_nodes
from netwatch.policy.segment import read_segment

MODE_ANNOTATION = "netwatch/mode"
API_VERSIONS = {
    "Segment": "netwatch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    cluster.KIND: "policy.networking.k8s.io/v1alpha2",
    admin.KIND: "policy.networking.k8s.io/v1alpha1",
    admin.BASELINE_KIND: "policy.networking.k8s.io/v1alpha1",
}
LISTS = ("List", *(f"{kind}List" for kind in API_VERSIONS))
NOT_YET = (
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "GlobalNetworkPolicy",
)
_TIER_READERS = {
    cluster.KIND: cluster.read_cluster_network_policy,
    admin.KIND: admin.read_admin_network_policy,
    admin.BASELINE_KIND: admin.read_baseline_admin_network_policy,
}
_DOCUMENT_KEYS = ("apiVersion", "kind", "metadata", "spec")
_METADATA_KEYS = (
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
    with problems.collected():
        for root in read_nodes(text, file):
            for node in _documents(root):
                with problems.collected():
                    policies.append(_document(node))
    with problems.collected():
        check_together(policies)
    problems.raise_any()
    return tuple(policies)


def check_together(policies: Sequence[Policy]) -> None:
    """Raise InvalidPolicies for documents that can not stand side by side.

    Two of one kind and namespace with one name, or two of one tier and priority that disagree.
    """
    problems = Problems()
    seen: dict[tuple[str, str | None, str], Policy] = {}
    for policy in policies:
        first = seen.setdefault((policy.kind, policy.namespace, policy.name), policy)
        if first is not policy:
            with problems.collected():
                raise invalid(
                    policy.place,
                    f"{policy.title} stands twice; the first is at {first.place}",
                    "give one of the two another name",
                )
    problems.found.extend(islice(conflicts(policies), MAX_PROBLEMS))
    problems.raise_any()


def _documents(node: Node) -> Iterator[Node]:
    """The documents of one root: itself, the items of its List, or of a bare list."""
    if node.kind is Kind.LIST:
        yield from node.items
    elif node.kind is Kind.MAPPING and _kind_of(node) in LISTS:
        known = ("apiVersion", "kind", "metadata", "items")
        entries = fields.mapping(node, "the List", known)
        yield from fields.sequence(entries.get("items"), "items")
    elif node.kind is not Kind.NULL:
        yield node


def _kind_of(node: Node) -> str | None:
    for key, value in node.entries:
        if key.text == "kind" and value.kind is Kind.TEXT:
            return value.text
    return None


def _document(node: Node) -> Policy:
    entries = fields.mapping(node, "the document")
    kind = _check_kind(node, entries)
    allowed = _DOCUMENT_KEYS if kind == "Segment" else (*_DOCUMENT_KEYS, "status")
    fields.mapping(node, f"the {kind}", allowed)
    problems = Problems()
    metadata = None
    with problems.collected():
        metadata = _metadata(node, entries.get("metadata"), kind)
    if "spec" not in entries:
        with problems.collected():
            raise invalid(node.place, f"the {kind} has no spec", "add spec: with its rules")
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
        raise invalid(node.place, "the document has no kind", f"kind: {' or '.join(API_VERSIONS)}")
    kind = entries["kind"]
    if kind.text in NOT_YET:
        raise invalid(
            kind.place,
            f"{kind.text} is not supported yet",
            f"supported: {', '.join(API_VERSIONS)}",
        )
    if kind.kind is not Kind.TEXT or kind.text not in API_VERSIONS:
        raise invalid(kind.place, f"kind is {kind.shown}", fields.meant(kind.text, API_VERSIONS))
    wanted = API_VERSIONS[kind.text]
    version = entries.get("apiVersion")
    if version is None:
        raise invalid(
            node.place, f"the {kind.text} has no apiVersion", f"add apiVersion: {wanted}"
        )
    if version.text != wanted:
        raise invalid(
            version.place,
            f"apiVersion is {version.shown}, but a {kind.text} has {wanted}",
            f"write apiVersion: {wanted}",
        )
    return kind.text


@dataclass(frozen=True, slots=True)
class _Metadata:
    name: str
    namespace: str | None
    mode: Mode | None


def _metadata(document: Node, node: Node | None, kind: str) -> _Metadata:
    if node is None:
        raise invalid(document.place, f"the {kind} has no metadata", "add metadata: {name: ...}")
    entries = fields.mapping(node, "metadata", _METADATA_KEYS)
    if "name" not in entries:
        raise invalid(node.place, "metadata has no name", "add name: web, say")
    name = fields.name(entries["name"], "metadata.name")
    if kind == admin.BASELINE_KIND and name != admin.BASELINE_NAME:
        raise invalid(
            entries["name"].place,
            f"there is one {kind}, and its name is not {entries['name'].shown}",
            f"write name: {admin.BASELINE_NAME}; a {cluster.KIND} may have any name",
        )
    namespace = None
    if "namespace" in entries:
        if kind in _TIER_READERS:
            raise invalid(
                entries["namespace"].place,
                f"a {kind} is of no namespace",
                f"leave it out, and say in subject: {{namespaces: {{matchLabels:"
                f" {{{fields.NAMESPACE_NAME}: {entries['namespace'].shown}}}}}}}",
            )
        namespace = fields.name(entries["namespace"], "metadata.namespace")
    annotations = {}
    if "annotations" in entries:
        annotations = fields.mapping(entries["annotations"], "annotations")
    return _Metadata(name, namespace, _mode(annotations))


def _mode(annotations: dict[str, Node]) -> Mode | None:
    for key, value in annotations.items():
        if key == MODE_ANNOTATION:
            return Mode(fields.choice(value, MODE_ANNOTATION, tuple(Mode)))
        if key.startswith("netwatch/"):
            raise invalid(
                value.place,
                f"there is no annotation {key[:60]!r}",
                f"did you mean {MODE_ANNOTATION}?",
            )
    return None

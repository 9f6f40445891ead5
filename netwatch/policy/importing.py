"""Takes over what a cluster has: documents of Kubernetes, Calico and Cilium become ours.

One reading for all files of a cluster, because Calico's order is between documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netwatch.policy import calico_reading, cilium_reading
from netwatch.policy.document import (
    API_VERSIONS,
    check_together,
    documents_of,
    read_document,
)
from netwatch.policy.fields import Problems
from netwatch.policy.foreign import entry
from netwatch.policy.ir import Policy, World
from netwatch.policy.nodes import Node, invalid, read_nodes


def read_foreign(texts: Iterable[tuple[str, str]], world: World) -> tuple[Policy, ...]:
    """The policies in (text, file) pairs; raises InvalidPolicies with every problem found.

    `world` tells whose addresses a CIDR of Cilium leaves out.
    """
    problems = Problems()
    policies: list[Policy] = []
    of_calico: list[Node] = []
    of_cilium: list[Node] = []
    with problems.collected():
        for text, file in texts:
            roots = map(_unlisted, read_nodes(text, file))
            for node in (node for root in roots for node in documents_of(root)):
                version = entry(node, "apiVersion") or ""
                if version.startswith("projectcalico.org/"):
                    with problems.collected():
                        of_calico.append(_known(node, calico_reading.KINDS))
                elif version.startswith("cilium.io/"):
                    with problems.collected():
                        of_cilium.append(_known(node, cilium_reading.KINDS))
                else:
                    with problems.collected():
                        policies.append(read_document(node))
    with problems.collected():
        kubernetes = [policy for policy in policies if policy.kind == "NetworkPolicy"]
        policies.extend(calico_reading.read_calico(of_calico, kubernetes))
    for node in of_cilium:
        with problems.collected():
            policies.extend(cilium_reading.read_cilium([node], world))
    with problems.collected():
        check_together(policies)
    problems.raise_any()
    return tuple(policies)


def _known(node: Node, kinds: Sequence[str]) -> Node:
    kind = entry(node, "kind")
    if kind not in kinds:
        raise invalid(
            node.place,
            f"the kind {kind} of {entry(node, 'apiVersion')} has no equal here",
            f"leave it out; read are {', '.join(kinds)}, {', '.join(API_VERSIONS)}",
        )
    return node


def _unlisted(root: Node) -> Node:
    """The items of any kind of list, as `kubectl get` and `calicoctl get` print them."""
    if (entry(root, "kind") or "").endswith("List"):
        for key, value in root.entries:
            if key.text == "items":
                return value
    return root

"""A mode is written into a text and nothing else changes: every comment, every other document."""

from __future__ import annotations

import pytest

from netwatch.model.errors import InvalidDocument
from netwatch.policy.document import parse
from netwatch.policy.ir import Mode
from netwatch.policy.modes import staged_unless_stated, with_mode

BLOCK = """# why
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: a  # of the shop
spec: {podSelector: {}}
"""
JSON = """{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
 "metadata": {"name": "a", "annotations": {"x/y": "1"}}, "spec": {"podSelector": {}}}
"""
LIST = """apiVersion: v1
kind: List
items:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: a, annotations: {}}
  spec: {podSelector: {}}
"""
CLUSTER = """apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: a}
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}}
"""
SEGMENT = """apiVersion: netwatch/v1
kind: Segment
metadata: {name: b, namespace: shop}
spec: {governs: app=b, ingress: isolated}
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BLOCK, id="block"),
        pytest.param(JSON, id="JSON with annotations"),
        pytest.param(LIST, id="a List, annotations without any"),
        pytest.param(CLUSTER, id="a ClusterNetworkPolicy"),
        pytest.param(f"{BLOCK}---\n{SEGMENT}", id="beside a Segment"),
    ],
)
def test_objects_of_a_cluster_are_staged(text: str) -> None:
    """Once: what is staged so is left alone. A Segment is not touched."""
    staged = staged_unless_stated(text, "a.yaml")
    first, *others = parse(staged, "a.yaml")
    assert (first.mode, [p.mode for p in others]) == (Mode.STAGE, [Mode.ENFORCE] * len(others))
    assert staged_unless_stated(staged, "a.yaml") == staged
    assert [line for line in text.split("\n") if "#" in line and line not in staged] == []


@pytest.mark.parametrize("mode", list(Mode))
def test_what_states_its_mode_is_left_alone(mode: Mode) -> None:
    stated = BLOCK.replace("  name", f"  annotations: {{netwatch/mode: {mode}}}\n  name")
    assert staged_unless_stated(stated, "a.yaml") == stated


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.STAGE])
@pytest.mark.parametrize("text", [BLOCK, JSON, LIST, CLUSTER, SEGMENT])
def test_a_mode_there_and_back(text: str, mode: Mode) -> None:
    """The second change writes where the first did, so the way back leads to the same text."""
    full = f"{SEGMENT.replace('name: b', 'name: z')}---\n{text}"

    def changed(source: str, to: Mode) -> str:
        return with_mode(source, "a.yaml", parse(source, "a.yaml")[1], to)

    once = changed(full, mode)
    assert [p.mode for p in parse(once, "a.yaml")] == [Mode.ENFORCE, mode]
    assert changed(changed(once, Mode.ENFORCE), mode) == once
    assert changed(once, mode) == once


def test_a_file_that_can_not_be_changed_says_so() -> None:
    """An alias that two documents would share: the mode of both would change."""
    shared = BLOCK.replace("metadata:\n  name: a", "metadata: &m\n  name: a")
    twice = shared + "---\n" + SEGMENT
    chosen = parse(twice, "a.yaml")[0]
    assert [p.mode for p in parse(with_mode(twice, "a.yaml", chosen, Mode.STAGE), "a.yaml")] == [
        Mode.STAGE,
        Mode.ENFORCE,
    ]
    listed = """apiVersion: v1
kind: List
items:
- {apiVersion: netwatch/v1, kind: Segment, metadata: {name: a}, spec: &s {governs: app=b}}
- {apiVersion: netwatch/v1, kind: Segment, metadata: {name: b}, spec: *s}
"""
    with pytest.raises(InvalidDocument, match="can not be written"):
        with_mode(listed, "a.yaml", parse(listed, "a.yaml")[0], Mode.STAGE)

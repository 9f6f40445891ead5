"""The schema and the parser know the same keys, in every mapping of every kind of document."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

import pytest

from netwatch.model.errors import InvalidDocument
from netwatch.policy.document import API_VERSIONS, read_document
from netwatch.policy.ir import Place
from netwatch.policy.nodes import Kind, Node
from netwatch.policy.schema import schema
from tests.unit.policy.test_schema import COMPLETE, ROOT, VALIDATOR, data, documents


def words_of_the_parser() -> set[str]:
    """Every text in the readers' sources that could be a key."""
    found = set()
    for name in ("admin_network_policy", "cluster_network_policy", "document", "network_policy",
                 "segment", "short", "tiers", "fields", "port_fields"):  # fmt: skip
        tree = ast.parse((ROOT / f"netwatch/policy/{name}.py").read_text())
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        found |= {text for text in texts if isinstance(text, str) and text.isidentifier()}
    return found


def words_of_the_schema(part: Any) -> set[str]:
    if isinstance(part, list):
        return set().union(*map(words_of_the_schema, part)) if part else set()
    if not isinstance(part, dict):
        return set()
    inner = set().union(*(words_of_the_schema(value) for value in part.values()), set())
    properties = part.get("properties")
    return inner | (set(properties) if isinstance(properties, dict) else set())


def with_key(node: Node, word: str) -> Iterator[Node]:
    """The document with one key more, of no value, in each of its mappings in turn."""
    if node.kind is Kind.MAPPING:
        place = Place("a.yaml", 1, 1)
        if word not in [key.text for key, _ in node.entries]:
            entry = (Node(Kind.TEXT, place, word), Node(Kind.NULL, place))
            yield Node(node.kind, node.place, entries=(*node.entries, entry))
        for index, (key, value) in enumerate(node.entries):
            for new in with_key(value, word):
                entries = (*node.entries[:index], (key, new), *node.entries[index + 1 :])
                yield Node(node.kind, node.place, entries=entries)
    for item in node.items:
        for new in with_key(item, word):  # alone: its neighbours would only cost time
            yield Node(node.kind, node.place, items=(new,))


def is_read(node: Node) -> bool:
    try:
        read_document(node)
    except InvalidDocument:
        return False
    return True


@pytest.mark.parametrize("kind", list(API_VERSIONS))
def test_both_know_the_same_keys_everywhere(kind: str) -> None:
    """Any word of either, as a key without a value, anywhere: both take it or neither does."""
    (node,) = (node for node in documents(COMPLETE) if data(node)["kind"] == kind)
    known = words_of_the_schema(schema())
    differ = set()
    for word in sorted(words_of_the_parser() | known):
        for changed in with_key(node, word):
            # A word that the schema has nowhere is refused by it everywhere.
            taken = word in known and VALIDATOR.is_valid(data(changed))
            if is_read(changed) != taken:
                differ.add((word, json.dumps(data(changed))))
    assert not differ

"""What is a mistake to the parser is one to the schema too, where a schema can say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.model.errors import InvalidDocument
from netwatch.policy.nodes import read_nodes
from tests.unit.policy.test_schema import VALIDATOR, data

FOLDER = Path(__file__).parent / "policy_errors"
MISTAKES = sorted(f for f in FOLDER.glob("*.yaml") if not f.name.startswith("compose-"))
NOT_STRUCTURE = {  # fmt: skip
    "alias-bomb",
    "anp-range-reversed",
    "cnp-conflict",
    "cnp-domain-deny",
    "cnp-domain-wildcard",
    "cnp-named-port-of-network",
    "cnp-network-mapped",
    "cnp-range-equal",
    "cnp-range-reversed",
    "control-character",
    "except-outside",
    "expires-day",
    "expires-no-zone",
    "hostile-whole-tag",
    "hostile-whole-twice",
    "k8s-end-port-before",
    "k8s-exists-with-values",
    "k8s-in-without-values",
    "key-twice",
    "merge-key",
    "not-closed",
    "not-yaml",
    "deny-dns-name",
    "peer-dns-name",
    "peer-host-bits",
    "peer-octal",
    "peer-prefix-too-long",
    "peer-zone",
    "port-icmp",
    "port-range-reversed",
    "python-tag",
    "scope-all-no-namespace",
    "seg-because-colon",
    "seg-brace-open",
    "seg-expires-day",
    "seg-merge-key",
    "seg-mode-twice",
    "seg-port-star-alias",
    "seg-port-text-big",
    "seg-port-twice",
    "seg-quote-open",
    "seg-tab",
    "seg-tag-text",
    "seg-term",
    "stands-twice",
    "too-deep",
}
"""Arithmetic, two places of one file, YAML itself, or what a network, name or time is."""


@pytest.mark.parametrize("file", MISTAKES, ids=[file.stem for file in MISTAKES])
def test_a_mistake_of_structure_fails_the_schema_too(file: Path) -> None:
    """What remains needs arithmetic, names or two places, and is listed."""
    try:
        roots = read_nodes(file.read_text(), file.name)
        found = [data(node) for root in roots for node in root.items or (root,)]
    except InvalidDocument:
        assert file.stem in NOT_STRUCTURE
        return
    assert all(map(VALIDATOR.is_valid, found)) == (file.stem in NOT_STRUCTURE)

"""Formatting changes the layout alone."""

from __future__ import annotations

import pytest

from netwatch.model.errors import NetwatchError
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.formatting import formatted

UGLY = """\
# Who may reach the database.
apiVersion:   netwatch/v1
kind: Segment
metadata: {name: db,   namespace: shop}
spec:
    governs: {app: db}   # the database
    # the API keeps its orders there
    rules:
    - from: {app: api}
      ports: 5432
      because: "a # in quotes is no comment"

    # the worker settles them
    - {from: {app: worker}, ports: [5432,  5433]}  # two ports
---
# the cache
apiVersion: netwatch/v1
kind: Segment
metadata: {name: cache, namespace: shop}
spec: {governs: {app: cache}, ingress: isolated}
"""


def test_layout_is_made_equal_and_every_comment_stays() -> None:
    laid = formatted(UGLY, "f.yaml")
    assert [line.split() for line in laid.split("\n")] == [
        line.split() for line in UGLY.split("\n")
    ]
    assert "    - from: {app: api}\n      ports: 5432\n" in laid
    assert "  governs: {app: db} # the database\n  # the API keeps its orders there\n" in laid
    assert "\n\n    # the worker settles them\n    - {" in laid
    assert formatted(laid, "f.yaml") == laid


def test_json_and_mistakes_are_refused() -> None:
    with pytest.raises(NetwatchError, match="JSON"):
        formatted("[]", "f.json")
    with pytest.raises(InvalidPolicies):
        formatted("kind: Segmen\n", "f.yaml")

"""What is different between two views of who talks to whom: new, gone and changed edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netwatch.model.edge import Edge

# What a person has decided or would act upon. Figures change with every packet and are not here.
WATCHED = (
    "encryption",
    "versions",
    "verdict",
    "staged",
    "link",
    "protection",
    "documented",
    "applications",
)


@dataclass(frozen=True, slots=True)
class Changed:
    """One edge that is in both; `what` names the fields of WATCHED in which it differs."""

    before: Edge
    after: Edge
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """By edge id, each list in its order."""

    new: tuple[Edge, ...]
    gone: tuple[Edge, ...]
    changed: tuple[Changed, ...]


def compare(before: Iterable[Edge], after: Iterable[Edge]) -> Comparison:
    """The edges of `after` against those of `before`."""
    old = {edge.id: edge for edge in before}
    now = {edge.id: edge for edge in after}
    changed = []
    for id in sorted(old.keys() & now.keys()):
        what = tuple(n for n in WATCHED if getattr(old[id], n) != getattr(now[id], n))
        if what:
            changed.append(Changed(old[id], now[id], what))
    return Comparison(
        new=tuple(now[id] for id in sorted(now.keys() - old.keys())),
        gone=tuple(old[id] for id in sorted(old.keys() - now.keys())),
        changed=tuple(changed),
    )

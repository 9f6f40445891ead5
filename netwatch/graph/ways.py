"""The ways through a graph of who may call whom: callers, blast radius, ways to the internet.

Pairs are (caller, called). Nobody's way leads through `outside`: whatever is out there, it is not
a step between two workloads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx


@dataclass(frozen=True, slots=True)
class Ways:
    """What one node reaches and is reached by; numbers are steps, 1 is a direct call.

    `exits` call the outside themselves; `shortest` is one of the shortest ways there, both ends
    included, empty where there is none. `independent` ways share no node in between, so as many
    workloads at least must be closed to end them all (Menger's theorem).
    """

    callers: tuple[tuple[str, int], ...] = ()
    called: tuple[tuple[str, int], ...] = ()
    exits: tuple[str, ...] = ()
    shortest: tuple[str, ...] = ()
    independent: int = 0


def ways(pairs: Iterable[tuple[str, str]], node: str, outside: str) -> Ways:
    """The ways from and to `node`; empty for one that nobody calls and that calls nobody."""
    built: nx.DiGraph[str] = nx.DiGraph()
    built.add_edges_from(pair for pair in pairs if pair[0] != pair[1])
    if node not in built:
        return Ways()
    inward = _without(built, built.in_edges(outside) if outside in built else ())
    outward = _without(built, built.out_edges(outside) if outside in built else ())
    called = nx.single_source_shortest_path_length(outward, node)
    callers = nx.single_target_shortest_path_length(inward, node)
    within = {*called} - {outside}
    return Ways(
        callers=_sorted(dict(callers), node),
        called=_sorted(called, node),
        exits=tuple(sorted(n for n in within if outward.has_edge(n, outside))),
        shortest=tuple(nx.shortest_path(outward, node, outside)) if outside in called else (),
        independent=_independent(outward, node, outside) if outside in called else 0,
    )


def _without(built: nx.DiGraph[str], edges: Iterable[tuple[str, str]]) -> nx.DiGraph[str]:
    copy = built.copy()
    copy.remove_edges_from(list(edges))
    return copy


def _sorted(steps: dict[str, int], node: str) -> tuple[tuple[str, int], ...]:
    others = ((name, number) for name, number in steps.items() if name != node)
    return tuple(sorted(others, key=lambda each: (each[1], each[0])))


def _independent(built: nx.DiGraph[str], node: str, outside: str) -> int:
    """Ways without a common node between; the direct one, where there is one, is one of them."""
    direct = built.has_edge(node, outside)
    if direct:
        built = _without(built, [(node, outside)])
    return int(direct) + int(nx.node_connectivity(built, node, outside))

"""Which labels name a workload, and which workloads are replicas of one service.

A proposal that names more workloads than were meant is wider than what was seen, so the selector
made here tells a group from every other group of its namespace, with as few labels as can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from netwatch.model.workload import Workload
from netwatch.policy.ir import EVERYTHING, Operator, Requirement, Selector, World

PREFERRED = (
    "app",
    "app.kubernetes.io/name",
    "com.docker.compose.service",
    "service",
    "k8s-app",
    "component",
    "role",
    "tier",
)
_CHANGING = re.compile(
    r"netwatch\.allow|com\.docker\.compose\.(?!service$).*|org\.opencontainers\..*|desktop\.docker\.io/.*"
    r"|(.*/)?(pod-template-hash|controller-revision-hash|pod-template-generation|pod-name"
    r"|pod-index|controller-uid|job-name|job-completion-index)"
)
"""Labels that differ between replicas or with each build: they name no service."""
_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9_.-]+")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:@+-]{0,252}")

Labels = frozenset[tuple[str, str]]


def lasting(labels: Mapping[str, str]) -> Labels:
    """The labels that replicas share and that every form of a policy can write."""
    return frozenset(
        (key, value)
        for key, value in labels.items()
        if not _CHANGING.fullmatch(key) and _KEY.fullmatch(key) and _VALUE.fullmatch(value)
    )


class Naming:
    """The groups of one world: workloads of one namespace with equal lasting labels."""

    def __init__(self, world: World) -> None:
        self._groups: dict[str, dict[Labels, list[Workload]]] = {}
        for workload in world.workloads:
            if not workload.host_network:
                groups = self._groups.setdefault(workload.namespace, {})
                groups.setdefault(lasting(workload.label_values()), []).append(workload)
        self._selectors: dict[tuple[str, Labels], Selector] = {}

    def replicas(self, workload: Workload) -> tuple[Workload, ...]:
        """Every workload of its group, itself included."""
        groups = self._groups.get(workload.namespace, {})
        return tuple(groups.get(lasting(workload.label_values()), [workload]))

    def selector(self, workload: Workload) -> Selector:
        """Selects this group and no other of its namespace."""
        own = lasting(workload.label_values())
        key = (workload.namespace, own)
        if key not in self._selectors:
            others = [g for g in self._groups.get(workload.namespace, {}) if g != own]
            self._selectors[key] = _telling(own, others)
        return self._selectors[key]

    def title(self, workload: Workload) -> str:
        """A name for the group that a document may have."""
        values = dict(lasting(workload.label_values()))
        for key in PREFERRED[:5]:
            if key in values:
                return _as_name(values[key])
        return _as_name(workload.name)


def _telling(own: Labels, others: Iterable[Labels]) -> Selector:
    """One label that is nowhere else if there is one; else as many as are needed, greedily."""
    left = list(others)
    if not left and not own:
        return EVERYTHING
    pairs = sorted(own, key=_rank)
    chosen: list[Requirement] = []
    while pairs and (left or not chosen):
        best = min(pairs, key=lambda pair: (sum(pair in g for g in left), _rank(pair)))
        kept = [group for group in left if best in group]
        if chosen and len(kept) == len(left):
            break
        chosen.append(Requirement(best[0], Operator.IN, frozenset([best[1]])))
        pairs.remove(best)
        left = kept
    keys = {key for key, _ in own}
    for absent in sorted({key for group in left for key, _ in group} - keys):
        if any(absent in dict(group) for group in left):
            chosen.append(Requirement(absent, Operator.DOES_NOT_EXIST))
            left = [group for group in left if absent not in dict(group)]
    return Selector(tuple(chosen))


def _rank(pair: tuple[str, str]) -> tuple[int, str, str]:
    key = pair[0]
    return (PREFERRED.index(key) if key in PREFERRED else len(PREFERRED)), *pair


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text[:60]).strip("-") or "workload"

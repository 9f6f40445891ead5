"""What detectors look at, and what a detector is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from netwatch.model.denial import Denial
from netwatch.model.edge import Edge
from netwatch.model.finding import Finding
from netwatch.model.host import HostState
from netwatch.model.workload import Workload


@dataclass(frozen=True, slots=True)
class FleetState:
    """One view of the whole fleet.

    `workloads` are by identity, those that went included, so that an edge to a container that was
    just replaced is still judged. `edges` are those of the period that detectors judge.
    `listening_since` is when this controller began to listen, in nanoseconds since the epoch.
    `denials` are those of the last minutes, each the sum of one minute.
    """

    workloads: Mapping[str, Workload] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    hosts: tuple[HostState, ...] = ()
    listening_since: int = 0
    denials: tuple[Denial, ...] = ()


Detector = Callable[[FleetState, int], Iterable[Finding]]

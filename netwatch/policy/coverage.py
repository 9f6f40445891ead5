"""What a proposal rests on, and what nobody has seen yet: the calls that would be denied tomorrow.

A score alone would hide it, so what is missing is named: weekdays, services, replicas of services
that were seen, and jobs, which serve nothing and run now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from netwatch.model.workload import Workload
from netwatch.policy.evidence import Call
from netwatch.policy.naming import Naming

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Workloads and weekdays by name. `unseen` are `services`, `replicas` and `jobs` together.

    `score` is the share of workloads times the share of weekdays that were seen.
    """

    score: float
    workloads: int
    unseen: tuple[str, ...]
    weekdays: tuple[str, ...]
    missing: tuple[str, ...]
    services: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


def coverage_of(calls: Iterable[Call], mine: Sequence[Workload], naming: Naming) -> Coverage:
    """What these calls say of `mine`, the workloads that are to be governed."""
    active: set[str] = set()
    days: set[date] = set()
    for call in calls:
        days |= call.days
        active |= {p.workload.identity for p in (call.source, call.destination) if p.workload}
    unseen: dict[str, list[str]] = {"services": [], "replicas": [], "jobs": []}
    for workload in mine:
        if workload.identity not in active:
            unseen[_sort(workload, active, naming)].append(workload.key)
    missed = sorted(key for keys in unseen.values() for key in keys)
    share = (len(mine) - len(missed)) / len(mine) if mine else 0.0
    seen = {day.weekday() for day in days}
    return Coverage(
        round(share * len(seen) / 7, 3),
        len(mine),
        tuple(missed),
        tuple(name for number, name in enumerate(_WEEKDAYS) if number in seen),
        tuple(name for number, name in enumerate(_WEEKDAYS) if number not in seen),
        **{kind: tuple(sorted(keys)) for kind, keys in unseen.items()},
    )


def _sort(workload: Workload, active: set[str], naming: Naming) -> str:
    if any(other.identity in active for other in naming.replicas(workload)):
        return "replicas"
    return "services" if workload.ports else "jobs"

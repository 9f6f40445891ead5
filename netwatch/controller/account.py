"""What the controller itself finds to be missing of a host, beside what its reports say."""

from __future__ import annotations

from netwatch.model.host import HostState
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.model.workload import Workload

LATE = 60 * SECOND  # by then detectors have looked, and somebody has seen the map without it
REFUSED = "reports refused"
_ATTACHING = ("tcx", "clsact")


def missing(
    report: Report, before: HostState | None, workloads: tuple[Workload, ...], now: int
) -> tuple[tuple[str, int], ...]:
    """Losses as (reason, count), none of them zero.

    `before` is the host as it was known until this report, and `workloads` those it had. Late is
    meant by both clocks: an agent whose clock is a minute slow is always late, and told so.
    """
    found = {
        "reports late": int(now - report.ended > LATE),
        "capture detached": len(_detached(report, before, workloads)),
    }
    return tuple((reason, count) for reason, count in found.items() if count)


def _detached(
    report: Report, before: HostState | None, workloads: tuple[Workload, ...]
) -> set[str]:
    """Interfaces that were watched, are still those of a workload, and are not watched now."""
    if before is None or before.capture.method not in _ATTACHING:
        return set()
    had = {interface.name for w in workloads for interface in w.interfaces}
    has = {interface.name for w in report.workloads for interface in w.interfaces}
    return (set(before.capture.interfaces) & had & has) - set(report.capture.interfaces)

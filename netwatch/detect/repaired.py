"""Rules changed: somebody else rewrote what enforces, and for a moment it did not."""

from __future__ import annotations

from collections.abc import Iterable

from netwatch.detect.state import FleetState
from netwatch.model.finding import Finding
from netwatch.model.host import HostState
from netwatch.model.repair import repair_as_json
from netwatch.model.times import SECOND

DETECTOR = "rules-changed"


def rules_changed(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per host while its agent tells of repairs, however many there were."""
    for host in state.hosts:
        if host.enforcement.repairs:
            yield _finding(host)


def _finding(host: HostState) -> Finding:
    repairs = sorted(host.enforcement.repairs, key=lambda repair: -repair.at)
    longest = max((repair.at - repair.since) / SECOND for repair in repairs)
    names = sorted({name for repair in repairs for name in repair.by})
    by = f" (changed by {', '.join(names)})" if names else ""
    times = f", {len(repairs)} times" if repairs[1:] else ""
    return Finding(
        detector=DETECTOR,
        subject=f"host:{host.host}",
        severity="high",
        title=(
            f"Rules of {host.host} were changed by others{by} and are mended{times}:"
            f" {repairs[0].differences[0]}; what they deny may have passed for up to"
            f" {longest:.1f} s"
        ),
        advice=(
            "Find what writes there: a firewall that is reloaded, a script, somebody at a shell. "
            "What passed meanwhile is in the flows of that time, with its verdict; sessions that "
            "began then and are forbidden were cut."
        ),
        evidence=tuple(repair_as_json(each) for each in repairs),
        host=host.host,
    )

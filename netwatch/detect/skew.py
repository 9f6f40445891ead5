"""A host whose clock is not the controller's: its flows and alerts stand at wrong times."""

from __future__ import annotations

from collections.abc import Iterable

from netwatch.detect.state import FleetState
from netwatch.model.finding import Finding
from netwatch.model.times import SECOND

DETECTOR = "clock-skew"


def clock_skew(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per host; what a spool delivers late is no skew (`HostState.skewed`)."""
    for host in state.hosts:
        if not host.skewed:
            continue
        seconds = abs(host.clock_skew) // SECOND
        side = "ahead of" if host.clock_skew > 0 else "behind"
        yield Finding(
            detector=DETECTOR,
            subject=f"host:{host.host}",
            severity="low",
            title=f"The clock of {host.host} is {seconds} s {side} the controller's",
            advice="Let both follow one time server: `timedatectl` on each says whether they do.",
            host=host.host,
            evidence=({"clock_skew_seconds": host.clock_skew / SECOND},),
        )

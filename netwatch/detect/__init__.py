"""Detectors: one pure function each, from the state and a time to findings."""

from __future__ import annotations

from netwatch.detect.denied import denied_burst
from netwatch.detect.forged import forged_sender
from netwatch.detect.obligation import obligation_violated
from netwatch.detect.plaintext import plaintext_across_hosts
from netwatch.detect.ports import undocumented_port
from netwatch.detect.repaired import rules_changed
from netwatch.detect.silence import silent_agent
from netwatch.detect.skew import clock_skew
from netwatch.detect.state import Detector, FleetState
from netwatch.detect.unproven import enforcement_unproven

DETECTORS: tuple[Detector, ...] = (
    undocumented_port,
    plaintext_across_hosts,
    silent_agent,
    denied_burst,
    forged_sender,
    enforcement_unproven,
    rules_changed,
    obligation_violated,
    clock_skew,
)

__all__ = ["DETECTORS", "Detector", "FleetState"]

"""Forged sender: a workload sent frames that are not its own, and was stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from netwatch.detect.state import FleetState
from netwatch.model.denial import Denial, denial_as_json
from netwatch.model.finding import Finding

DETECTOR = "forged-sender"
EVIDENCE_LIMIT = 20


def forged_sender(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per workload whose port sent them. One frame is enough: no socket makes one."""
    senders: dict[str, list[Denial]] = defaultdict(list)
    for denial in state.denials:
        if denial.kind == "spoofed" and denial.source in state.workloads:
            senders[denial.source].append(denial)
    for source, denials in sorted(senders.items()):
        ordered = sorted(denials, key=lambda each: (-each.count, each.claimed or "", each.last))
        claimed = sorted({each.claimed for each in denials if each.claimed})
        said = ", ".join(claimed[:3]) + (f" and {len(claimed) - 3} more" if claimed[3:] else "")
        yield Finding(
            detector=DETECTOR,
            subject=source,
            severity="high",
            title=f"{source} sent frames that are not its own, as {said}: all were dropped",
            advice=(
                "An address of another is a forgery, unless somebody gave the container one more "
                "address than its runtime knows; its own address means a foreign MAC address or a "
                "VLAN tag. Look what runs in it; netwatch quarantine cuts it off."
            ),
            evidence=tuple(denial_as_json(each) for each in ordered[:EVIDENCE_LIMIT]),
            host=state.workloads[source].host,
            workloads=(source,),
        )

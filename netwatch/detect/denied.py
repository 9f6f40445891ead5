"""Denied burst: somebody keeps knocking where policies do not let it in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from netwatch.detect.state import FleetState
from netwatch.model.denial import Denial, denial_as_json
from netwatch.model.finding import Finding
from netwatch.model.times import SECOND

DETECTOR = "denied-burst"
MINUTE = 60 * SECOND
BURST = 60  # in one minute: one a second; a call that is tried now and then stays below
EVIDENCE_LIMIT = 20


def denied_burst(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per pair that was denied often within a minute, whichever the ports.

    Only what enforcing documents denied counts: a staged one only asks, and a quarantined
    workload is expected to knock.
    """
    pairs: dict[tuple[str, str], list[Denial]] = defaultdict(list)
    for denial in state.denials:
        known = denial.source in state.workloads or denial.destination in state.workloads
        if denial.kind == "denied" and known:
            pairs[denial.source, denial.destination].append(denial)
    for (source, destination), denials in sorted(pairs.items()):
        minutes: dict[int, int] = defaultdict(int)
        for denial in denials:
            minutes[denial.last // MINUTE] += denial.count
        if max(minutes.values()) >= BURST:
            yield _finding(source, destination, denials, state)


def _finding(source: str, destination: str, denials: list[Denial], state: FleetState) -> Finding:
    ordered = sorted(denials, key=lambda each: (-each.count, each.port or 0, each.last))
    services = sorted({_service(each) for each in denials})
    said = ", ".join(services[:3]) + (f" and {len(services) - 3} more" if services[3:] else "")
    decided = next((each for each in ordered if each.document), None)
    by = f" by {decided.document}" if decided else ""
    known = [state.workloads[id] for id in (source, destination) if id in state.workloads]
    return Finding(
        detector=DETECTOR,
        subject=f"{source}>{destination}",
        severity="medium",
        title=f"{source} was denied {destination} on {said}{by}, again and again",
        advice=(
            f"If {source} should reach it, allow that in the document named in the evidence; if "
            "not, find what knocks: a wrong setting, or somebody who looks for a way in "
            "(netwatch quarantine cuts it off)."
        ),
        evidence=tuple(denial_as_json(each) for each in ordered[:EVIDENCE_LIMIT]),
        host=known[0].host,
        workloads=tuple(workload.identity for workload in known),
    )


def _service(denial: Denial) -> str:
    return denial.protocol if denial.port is None else f"{denial.protocol}/{denial.port}"

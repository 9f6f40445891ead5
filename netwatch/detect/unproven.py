"""Enforcement unproven: what the kernel does with a call is not what the documents say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from netwatch.detect.state import FleetState
from netwatch.model.finding import Finding
from netwatch.model.host import HostState
from netwatch.model.probe import Disagreement, disagreement_as_json

DETECTOR = "enforcement-unproven"
EVIDENCE_LIMIT = 20


def enforcement_unproven(state: FleetState, now: int) -> Iterable[Finding]:
    """One finding per host, document and kind: a hole is another cause than a wall."""
    for host in state.hosts:
        causes: dict[tuple[str, str], list[Disagreement]] = defaultdict(list)
        for found in host.enforcement.unproven:
            causes[found.segment, found.kind].append(found)
        for (segment, kind), wrong in sorted(causes.items()):
            yield _finding(host, segment, kind, wrong, state)


def _finding(
    host: HostState, segment: str, kind: str, wrong: list[Disagreement], state: FleetState
) -> Finding:
    first = wrong[0]
    call = f"{first.source} to {first.destination} on {first.protocol}/{first.port}"
    more = f", and {len(wrong) - 1} calls more" if wrong[1:] else ""
    hole = kind == "false-allow"
    ends = {end for each in wrong for end in (each.source, each.destination)}
    return Finding(
        detector=DETECTOR,
        subject=f"{host.host}:{segment}:{kind}",
        severity="critical" if hole else "high",
        title=(
            f"The kernel of {host.host} lets {call} through, which {segment} denies{more}"
            if hole
            else f"The kernel of {host.host} stops {call}, which {segment} allows{more}"
        ),
        advice=(
            f"On {host.host}: `netwatch host verify` tells what differs in rules and switches, "
            "`netwatch probe` which calls. If the rules are right, another program's table or "
            "interface stands beside them: `nft list ruleset`, `iptables-legacy-save`."
        ),
        evidence=tuple(disagreement_as_json(each) for each in wrong[:EVIDENCE_LIMIT]),
        host=host.host,
        workloads=tuple(sorted(ends & state.workloads.keys())),
    )

"""A disagreement of kernel and documents is a finding per host, document and kind."""

from __future__ import annotations

from dataclasses import replace

from netwatch.detect.state import FleetState
from netwatch.detect.unproven import enforcement_unproven
from netwatch.model.host import HostState
from netwatch.model.probe import Disagreement
from netwatch.model.report import Enforcement, Report
from netwatch.model.workload import Workload
from netwatch.wire import pack, unpack

HOLE = Disagreement(
    *("false-allow", "a/x/rogue", "a/x/api", "198.18.1.11", "tcp", 80, "open"),
    "Segment x/api",
)
WALL = replace(HOLE, kind="false-deny", result="filtered")
KNOWN = {"a/x/api": Workload("a", "x", "api", "netns")}


def found(*wrong: Disagreement) -> dict[str, str]:
    host = HostState("a", enforcement=Enforcement(unproven=wrong))
    state = FleetState(workloads=KNOWN, hosts=(host,))
    return {f.subject: f.severity for f in enforcement_unproven(state, 0)}


def test_a_hole_is_worse_than_a_wall_and_another_cause() -> None:
    assert found() == {}
    assert found(HOLE, WALL) == {
        "a:Segment x/api:false-allow": "critical",
        "a:Segment x/api:false-deny": "high",
    }


def test_many_calls_of_one_document_are_one_finding() -> None:
    """However many canaries die of one cause; each document has its own."""
    other = replace(HOLE, segment="Segment x/db")
    assert len(found(HOLE, replace(HOLE, port=81), replace(HOLE, port=82), other)) == 2


def test_the_finding_says_which_call_and_what_to_do() -> None:
    host = HostState("a", enforcement=Enforcement(unproven=(HOLE, replace(HOLE, port=81))))
    (finding,) = enforcement_unproven(FleetState(workloads=KNOWN, hosts=(host,)), 0)
    assert "a/x/rogue to a/x/api on tcp/80" in finding.title and "1 calls more" in finding.title
    assert "netwatch host verify" in finding.advice
    assert finding.workloads == ("a/x/api",)
    assert [each["port"] for each in finding.evidence] == [80, 81]


def test_disagreements_cross_the_wire() -> None:
    """As part of a report; one without them, from an older agent, is read as well."""
    told = Enforcement(unproven=(HOLE,), proven=3, proven_at=7, totals=(("denied", 5),))
    report = Report("a", "boot", 1, 0, 1, enforcement=told)
    assert unpack(pack(report)).enforcement == told

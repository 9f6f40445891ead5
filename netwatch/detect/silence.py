"""Silent agent: on the map, an unwatched host looks like a host where nothing happens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netwatch.detect.state import FleetState
from netwatch.model.finding import Finding
from netwatch.model.host import HostState
from netwatch.model.times import SECOND, rfc3339

DETECTOR = "silent-agent"
MISSED_INTERVALS = 3
SLACK = 15 * SECOND  # a slow report, a retry, a clock that was set
AFTER = 75 * SECOND  # the alert must be out within 90 s: this, one tick, one webhook


def silence_limit(host: HostState, *, after: int = AFTER) -> int:
    """How long that host may say nothing, in nanoseconds."""
    return max(after, MISSED_INTERVALS * host.interval + SLACK)


def is_silent(host: HostState, now: int, *, listening_since: int, after: int = AFTER) -> bool:
    """Whether it is overdue. Time in which the controller itself did not listen does not count."""
    heard = host.last_report if host.last_report is not None else host.enrolled
    return now - max(heard or 0, listening_since) > silence_limit(host, after=after)


def silent_agent(state: FleetState, now: int, *, after: int = AFTER) -> Iterable[Finding]:
    """One finding per host; an agent that stopped is told apart from one that never began."""
    for host in state.hosts:
        if is_silent(host, now, listening_since=state.listening_since, after=after):
            yield _stopped(host) if host.last_report is not None else _never(host)


def _stopped(host: HostState) -> Finding:
    evidence: dict[str, Any] = {
        "cause": "stopped",
        "last_report": rfc3339(host.last_report),
        "interval_seconds": host.interval / SECOND,
        "workloads_unwatched": host.workloads,
    }
    return Finding(
        detector=DETECTOR,
        subject=f"host:{host.host}",
        severity="high",
        title=f"The agent of {host.host} stopped reporting at {rfc3339(host.last_report)}",
        advice=(
            f"On {host.host}: `systemctl status netwatch-agent`, then `netwatch doctor`. Rules "
            "that it loaded stay in force; what happened meanwhile comes with its next reports."
        ),
        evidence=(evidence,),
        host=host.host,
    )


def _never(host: HostState) -> Finding:
    return Finding(
        detector=DETECTOR,
        subject=f"host:{host.host}",
        severity="medium",
        title=f"The agent of {host.host} was enrolled and never reported",
        advice=(
            f"Start the agent on {host.host} with the token that its enrolment gave, and see that "
            "it reaches the controller's address and port."
        ),
        evidence=({"cause": "never-reported", "enrolled": rfc3339(host.enrolled)},),
        host=host.host,
    )

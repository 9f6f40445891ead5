"""A finding is a detector's statement about the state; an alert is a finding with a life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwatch.model.times import rfc3339

SEVERITIES = ("info", "low", "medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class Finding:
    """(`detector`, `subject`) names the cause: the same pair is the same alert.

    `evidence` is JSON-ready: the flows, ports or times that prove the statement.
    """

    detector: str
    subject: str
    severity: str
    title: str
    advice: str
    evidence: tuple[dict[str, Any], ...] = ()
    host: str | None = None
    workloads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """`state`: open, acknowledged, snoozed or resolved. Times are nanoseconds since the epoch."""

    id: str
    finding: Finding
    state: str
    opened: int
    updated: int
    resolved: int | None = None


def alert_as_json(alert: Alert) -> dict[str, Any]:
    """The object of `netwatch alerts --json`, of the API, and of a webhook's `data.alert`."""
    finding = alert.finding
    return {
        "id": alert.id,
        "detector": finding.detector,
        "subject": finding.subject,
        "severity": finding.severity,
        "title": finding.title,
        "advice": finding.advice,
        "state": alert.state,
        "opened": rfc3339(alert.opened),
        "updated": rfc3339(alert.updated),
        "resolved": rfc3339(alert.resolved),
        "host": finding.host,
        "workloads": list(finding.workloads),
        "evidence": list(finding.evidence),
    }

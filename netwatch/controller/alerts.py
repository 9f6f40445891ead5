"""The life of an alert, decided from findings and a time alone.

A cause, (detector, subject), has at most one active alert. It opens with the first finding, lives
while findings come, and is resolved when none comes; a cause that returns is a new alert.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from netwatch.controller.store import Event
from netwatch.model.errors import NetwatchError
from netwatch.model.finding import Alert, Finding, alert_as_json
from netwatch.model.times import SECOND, rfc3339

Cause = tuple[str, str]
ACTIVE_LIMIT = 5_000
REFRESH = 30 * SECOND  # evidence grows with every packet; an alert is written no more often


@dataclass(frozen=True, slots=True)
class Step:
    """What one look at the findings changed. `active` is what is active after it.

    `dropped` are causes that found no room beside ACTIVE_LIMIT others.
    """

    active: dict[Cause, Alert]
    opened: tuple[Alert, ...]
    updated: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    dropped: int


def cause_of(finding: Finding) -> Cause:
    """What makes two findings the same alert."""
    return finding.detector, finding.subject


def step(
    active: Mapping[Cause, Alert],
    findings: Iterable[Finding],
    now: int,
    *,
    new_id: Callable[[], str],
) -> Step:
    """Pure but for `new_id`. Times are nanoseconds since the epoch."""
    found = {cause_of(finding): finding for finding in findings}
    opened, updated, resolved = [], [], []
    after: dict[Cause, Alert] = {}
    for cause, alert in active.items():
        if cause not in found:
            resolved.append(replace(alert, state="resolved", updated=now, resolved=now))
            continue
        after[cause] = _refreshed(alert, found[cause], now)
        if after[cause] is not alert:
            updated.append(after[cause])
    new = [finding for cause, finding in found.items() if cause not in active]
    room = max(0, ACTIVE_LIMIT - len(after))
    for finding in new[:room]:
        alert = Alert(new_id(), finding, "open", opened=now, updated=now)
        after[cause_of(finding)] = alert
        opened.append(alert)
    dropped = max(0, len(new) - room)
    return Step(after, tuple(opened), tuple(updated), tuple(resolved), dropped)


def _refreshed(alert: Alert, finding: Finding, now: int) -> Alert:
    """The alert with the newest evidence; the same object if that is not worth a write."""
    old = alert.finding
    weightier = (finding.severity, finding.title) != (old.severity, old.title)
    if weightier or now - alert.updated >= REFRESH:
        return replace(alert, finding=finding, updated=now)
    return alert


def with_id(alerts: Iterable[Alert], id: str) -> Alert:
    """The one with this id; raises NetwatchError not-found."""
    for alert in alerts:
        if alert.id == id:
            return alert
    raise NetwatchError(
        f"no open alert has the id {id[:64]!r}",
        "`netwatch alerts` lists those that are open",
        code="not-found",
    )


def event(type: str, alert: Alert, now: int) -> Event:
    """What receivers are told of a change."""
    body = {"type": type, "timestamp": rfc3339(now), "data": alert_as_json(alert)}
    return Event(alert.id, type, json.dumps(body, separators=(",", ":")), now)

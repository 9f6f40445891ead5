"""Placeholder until enforce is there."""

from __future__ import annotations

from netwatch.model.flow import Flow
from netwatch.model.report import Enforcement
from netwatch.model.snapshot import Snapshot


class Watchman:
    """Placeholder."""

    def __call__(self, snapshot: Snapshot, now: int):  # type: ignore[no-untyped-def]
        return Enforcement(), lambda flow: ("allow", "allow")

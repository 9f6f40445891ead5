"""What every source of workloads offers; Docker and the lab are the two that exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from netwatch.model.snapshot import Snapshot


class Source(Protocol):
    """Knows the workloads of this host. `changed` is called (any thread) after each change."""

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to watch; returns when the first snapshot is ready, or its problem is known."""

    def snapshot(self) -> Snapshot:
        """What is known now; never blocks, never raises."""

    def close(self) -> None:
        """Stop watching."""

"""Chooses where this host's workloads are learned from: the lab it is part of, else Docker."""

from __future__ import annotations

from collections.abc import Callable

from netwatch.discover.docker import find_docker
from netwatch.discover.lab import find_lab
from netwatch.discover.source import Source
from netwatch.model.snapshot import Snapshot
from netwatch.settings import Settings


class NoSource:
    """A host without a runtime that we know: nothing to see, and a sentence that says so."""

    def __init__(self, host: str, problem: str) -> None:
        self._snapshot = Snapshot(host, problem=problem)

    def start(self, changed: Callable[[], None]) -> None:
        """There is nothing to watch."""

    def snapshot(self) -> Snapshot:
        """No workloads, and why."""
        return self._snapshot

    def close(self) -> None:
        """There is nothing to stop."""


def find_source(settings: Settings) -> Source:
    """The source of this network namespace's workloads; never fails, but may have a problem."""
    return (
        find_lab(None)
        or find_docker(settings)
        or NoSource(
            settings.host,
            f"no Docker at {settings.docker_socket} and no lab: nothing to watch here; start"
            " Docker, name its socket in NETWATCH_DOCKER_SOCKET, or try netwatch demo",
        )
    )

"""Chooses where this host's workloads are learned from: the lab it is part of, else its runtimes.

Docker and Podman may both run on one host; what they say becomes one snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import reduce

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


class Together:
    """Several runtimes of one host as one source; the first keeps a name that two want."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        self._parts: dict[str, Snapshot] = {}
        self._whole = Snapshot("")

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to watch, all at once: a runtime that does not answer delays no other."""
        threads = [
            threading.Thread(target=source.start, args=(changed,), name="start of a source")
            for source in self._sources.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def snapshot(self) -> Snapshot:
        """What all of them know now."""
        parts = {runtime: source.snapshot() for runtime, source in self._sources.items()}
        if parts != self._parts:
            self._parts, self._whole = parts, merged(parts)
        return self._whole

    def close(self) -> None:
        """Stop watching."""
        for source in self._sources.values():
            source.close()


def merged(snapshots: Mapping[str, Snapshot]) -> Snapshot:
    """One snapshot of one host, from those of its runtimes. Names are per runtime, and identities
    are not: a workload or a network whose name an earlier one has is called NAME@RUNTIME.
    """
    whole, *others = snapshots.items()
    return reduce(lambda first, other: _with(first, other[1], other[0]), others, whole[1])


def _with(first: Snapshot, second: Snapshot, runtime: str) -> Snapshot:
    taken = {workload.key for workload in first.workloads}
    other = _renamed(second, {network.name for network in first.networks}, runtime)
    workloads = tuple(
        replace(w, name=f"{w.name}@{runtime}") if w.key in taken else w for w in other.workloads
    )
    problems = [problem for problem in (first.problem, second.problem) if problem]
    return replace(
        first,
        workloads=first.workloads + workloads,
        networks=first.networks + other.networks,
        addresses=tuple(sorted({*first.addresses, *second.addresses})),
        uplinks=tuple(sorted({*first.uplinks, *second.uplinks})),
        problem="; ".join(problems) or None,
    )


def _renamed(snapshot: Snapshot, taken: Collection[str], runtime: str) -> Snapshot:
    """With networks that are told apart from those of the names in `taken`."""
    name = {n.name: f"{n.name}@{runtime}" for n in snapshot.networks if n.name in taken}
    if not name:
        return snapshot
    return replace(
        snapshot,
        networks=tuple(replace(n, name=name.get(n.name, n.name)) for n in snapshot.networks),
        workloads=tuple(
            replace(
                w,
                networks=tuple(name.get(n, n) for n in w.networks),
                interfaces=tuple(
                    replace(i, network=name.get(i.network or "", i.network)) for i in w.interfaces
                ),
            )
            for w in snapshot.workloads
        ),
    )


def find_source(settings: Settings) -> Source:
    """The source of this network namespace's workloads; never fails, but may have a problem."""
    lab = find_lab(None)
    if lab is not None:
        return lab
    # Here, because a lab needs none of it: the client of the engine is an eighth of the start.
    from netwatch.discover.docker import find_docker, find_podman

    asked = {"docker": find_docker(settings), "podman": find_podman(settings)}
    found: dict[str, Source] = {name: source for name, source in asked.items() if source}
    if not found:
        return NoSource(
            settings.host,
            f"no Docker at {settings.docker_socket}, no Podman at {settings.podman_socket} and no"
            " lab: nothing to watch here; start one, name its socket in NETWATCH_DOCKER_SOCKET or"
            " NETWATCH_PODMAN_SOCKET, or try netwatch demo",
        )
    return Together(found) if len(found) > 1 else next(iter(found.values()))

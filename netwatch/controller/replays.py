"""A draft against all that history holds: each question that its flows ask is judged once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from netwatch.controller.judging import policies_of, world_of
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.host import HostState
from netwatch.model.policy_version import Document
from netwatch.model.workload import Workload
from netwatch.policy.evidence import Reader
from netwatch.policy.replay import Replay, replay


def replay_of(
    flows: Iterable[Flow],
    draft: Sequence[Document],
    *,
    before: Sequence[Document] | None,
    world: tuple[Iterable[Workload], Iterable[HostState]],
    now: int,
    left_out: int = 0,
) -> Replay:
    """What the draft would have done to these flows; raises InvalidDocument for its documents.

    `left_out` connections are known to be missing from the flows.
    """
    policies = policies_of(draft)
    past = None if before is None else policies_of(before)
    known = world_of(*world)
    reader = Reader(known)
    for flow in flows:
        reader.add(flow)
    evidence = reader.evidence()
    whole = replace(evidence, dropped=evidence.dropped + left_out)
    return replay(policies, known, whole, now=now, before=past)


@contextmanager
def held(lock: threading.Lock, busy: str) -> Iterator[None]:
    """Holds what only one may do at a time; raises NetwatchError busy for whoever comes second."""
    if not lock.acquire(blocking=False):
        raise NetwatchError(busy, "wait until it has ended", code="busy")
    try:
        yield
    finally:
        lock.release()

"""Keeps what is applied true while workloads come and go and others write rules.

The documents are those that `netwatch host apply` left; here they are never changed. When the
runtime does not answer nothing is touched: the rules in the kernel stay as they are.
"""

from __future__ import annotations

from functools import partial

from netwatch.enforce import counters, host, indoors, kernel, sessions
from netwatch.enforce.compile import compile
from netwatch.enforce.ends import host_addresses
from netwatch.enforce.linklocal import with_link_local
from netwatch.enforce.plan import plan
from netwatch.model.snapshot import Snapshot


def refresh(applied: host.Applied, snapshot: Snapshot, *, now: int) -> tuple[str, ...]:
    """Bring the kernel to what the applied documents mean for this snapshot.

    Returns what differed, in sentences; empty if nothing did. Raises Busy while somebody else
    changes the rules, NotApplied if the kernel refuses, CapReached if a host can not hold it.
    """
    if snapshot.problem:
        return ()
    with kernel.lock():
        snapshot = with_link_local(snapshot)
        ruleset = compile(applied.policies, snapshot, now=now)
        todo = plan(ruleset, kernel.read(applied.backend))
        within = partial(indoors.settle, record=host.rooms(), now=now)
        if todo.empty:
            return within(ruleset, snapshot, applied.backend)
        counters.bank(todo, applied.backend, host.folder())
        kernel.carry_out(todo, applied.backend)
        for session in sessions.forbidden(ruleset, host_addresses(snapshot)):
            sessions.cut(session)
        return (*todo.drift, *within(ruleset, snapshot, applied.backend))

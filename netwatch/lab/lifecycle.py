"""`lab up` and `lab down`: all of a lab, or nothing of it.

The intent is written first and everything made carries a prefix, so `down` needs no memory of what
`up` had reached: it removes every namespace with the prefix, every process that lives in one of a
workload, and the files. A `lab up` that fails does the same before it says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from netwatch.kernel import commands
from netwatch.lab import assignment, facts, netns, state, wiring
from netwatch.lab.document import load
from netwatch.lab.orders import Orders
from netwatch.lab.plan import Plan, directory, place
from netwatch.lab.serve import GO
from netwatch.model.errors import NetwatchError

READY_S = 60.0  # for all processes to accept; a lab of 20 needs less than one
GONE_S = 10.0  # for the processes to be gone after SIGKILL


@dataclass(frozen=True, slots=True)
class Built:
    """A lab that is up. `notes`: what it lacks, in sentences for people."""

    plan: Plan
    notes: tuple[str, ...]


class LabFailed(NetwatchError):
    """A lab could not be brought up or taken down."""

    code = "lab-failed"


def up(path: Path, *, now: int) -> Built:
    """Build the lab of a file; returns when every listener accepts, and calls begin.

    `now` (nanoseconds since the epoch) is when its certificates begin to be valid.

    Raises InvalidDocument, LabBusy, or what failed on the way; nothing is left then.
    """
    plan = place(load(path), file=str(path))
    orders = assignment.assign(plan, now=now, file=str(path))
    if os.geteuid() != 0:
        raise LabFailed("a lab needs root: it makes network namespaces", "use sudo")
    with state.alone(wait=False):
        if state.present() or netns.existing():
            raise state.LabBusy("a lab is already up", "end it first: netwatch lab down")
        with _undone_on_failure():
            return _build(plan, orders)


def down() -> list[str]:
    """Remove whatever there is of a lab; returns the names of the namespaces removed."""
    if os.geteuid() != 0:
        raise LabFailed("removing a lab needs root", "use sudo")
    with state.alone(wait=True):
        return _remove()


def _build(plan: Plan, orders: list[Orders]) -> Built:
    state.write_intent()
    notes = wiring.build(plan)
    feed = json.dumps({"parent": os.getpid(), "orders": [asdict(order) for order in orders]})
    program = [sys.executable, "-m", "netwatch.lab.serve"]
    answer = json.loads(commands.check(program, feed=feed, deadline_s=READY_S))
    pids: dict[str, int] = answer["pids"]
    for host in plan.hosts:
        indexes = wiring.index_of(host, plan.on(host.name))
        known = facts.snapshot(plan, host, pids=pids, indexes=indexes)
        state.write_host(host.name, msgspec.json.encode(known))
    state.write_directory(directory(plan))
    for pid in pids.values():
        os.kill(pid, GO)
    return Built(plan, (*notes, *answer["skipped"]))


@contextlib.contextmanager
def _undone_on_failure() -> Iterator[None]:
    try:
        yield
    except BaseException:
        _remove()
        raise


def _remove() -> list[str]:
    names = netns.existing()
    deadline = time.monotonic() + GONE_S
    while pids := netns.residents(names):
        if time.monotonic() > deadline:
            raise LabFailed(f"the processes {pids} do not end", "see what holds them: ps -l")
        netns.kill(pids)
        time.sleep(0.005)
    for name in names:
        state.forget(netns.inode(name))
        netns.remove(name)
    state.erase()
    return names

"""What an agent can prove of its enforcement: totals from counters, use of rules, canaries.

Whatever reads counters or waits for the network does so in a thread of its own: the agent's round
never waits. Totals and hits survive the agent, under the state folder.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from netwatch.agent.canary import Canary, Proof
from netwatch.agent.hits import Hits
from netwatch.agent.hits import file_of as hits_file
from netwatch.enforce import counters, host, quarantine
from netwatch.enforce.probed import Record
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.report import Enforcement
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND, passed
from netwatch.policy.ir import Policy

log = logging.getLogger("netwatch.agent")

LOOK_S = 0.5
READ_EVERY = 5 * SECOND  # a read is two programs, 10 ms of one core
Documents = Callable[[], Sequence[Policy]]


class Prover:
    """Adds what is proven to each report; runs in the namespace of whoever makes it."""

    def __init__(
        self, documents: Documents, state: Path, name: str, record: Record, *, canary_s: float
    ) -> None:
        """`canary_s`: seconds between two rounds of canaries, 0 for none."""
        self._documents = documents
        self.probed = record.recent
        self._every = round(canary_s * SECOND)
        self._hits = Hits(hits_file(state, name))
        self._file = counters.file_of(state, name)
        self._kept = counters.load(self._file)
        self._canary = Canary()
        self._proof = Proof()
        self._snapshot: Snapshot | None = None
        self._backend: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="proof", daemon=True)
        self._thread.start()

    def __call__(
        self, enforcement: Enforcement, flows: Sequence[Flow], snapshot: Snapshot, now: int
    ) -> Enforcement:
        """The state of enforcement with its proof."""
        self._snapshot, self._backend = snapshot, enforcement.backend
        self._hits.count(flows, self._documents(), snapshot, now)
        return replace(
            enforcement,
            totals=tuple(sorted(self._kept.total.items())),
            proven=self._proof.proven,
            proven_at=self._proof.at,
            unproven=self._proof.wrong,
        )

    def close(self) -> None:
        """Save, and stop."""
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        read = tried = 0
        stopped = False
        while not stopped:
            stopped = self._stopping.wait(LOOK_S)
            now = time.time_ns()
            try:
                if stopped or passed(read, now, READ_EVERY):
                    read = now
                    self._read(now)
                if stopped:
                    self._hits.save(now)
                elif self._every and passed(tried, now, self._every) and self._try(now):
                    tried = now
            except (NetwatchError, OSError) as error:  # the next round may do better
                tried = now
                log.warning("enforcement could not be proven: %s", error)

    def _read(self, now: int) -> None:
        """Rules of ours may be in the kernel for a quarantine alone, too."""
        state, folder = host.applied(), host.folder()
        if state is None:
            return
        kept = counters.added(
            self._kept, counters.read(state.backend, folder), counters.epoch(folder)
        )
        kept = structs.replace(kept, since=kept.since or now)
        if kept != self._kept:
            counters.save(self._file, kept)
            self._kept = kept

    def _try(self, now: int) -> bool:
        """Whether the round counts; one that met a change is made again at once."""
        policies = self._documents()
        if self._snapshot is None or self._backend is None or not policies:
            self._proof = Proof()
            return False
        found = self._canary.round(policies, lambda: self._marked(now), now)
        if found is None or policies is not self._documents():
            return False
        for wrong in found.wrong:
            log.error("kernel and policies disagree (%s): %r", wrong.kind, wrong)
        self._proof = found
        return True

    def _marked(self, now: int) -> Snapshot:
        assert self._snapshot is not None
        return quarantine.marked(self._snapshot, now=now)

"""Gives what the rules log a name: which workload was refused by which, and by which document."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence

from netwatch.agent.names import names_of
from netwatch.enforce import nflog
from netwatch.enforce.ends import world_of
from netwatch.enforce.probed import Record
from netwatch.model.denial import Denial
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.evaluate import ENFORCED, STAGED, Judge
from netwatch.policy.ir import Party, Policy

log = logging.getLogger("netwatch.agent")

MAX_TOLD = 2_000  # of one report, those that were heard most
AGAIN_S = 10.0  # somebody else may hear the group now, and not later
LOOK_S = 0.5
Documents = Callable[[], Sequence[Policy]]


class Ear:
    """Hears denials in a thread of its own, in the namespace of whoever makes it."""

    def __init__(self, documents: Documents, record: Record | None = None) -> None:
        """`record`: of netwatch's own probes, whose denials are set aside."""
        self._documents = documents
        self._tally = nflog.Tally(record.recent) if record else nflog.Tally()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._untold = 0
        self._judges: tuple[object, Snapshot, Naming] | None = None
        self._link = _open()
        self._thread = threading.Thread(target=self._hear, name="denials", daemon=True)
        self._thread.start()

    def __call__(self, snapshot: Snapshot, now: int) -> tuple[Denial, ...]:
        """What was heard since the last time, those heard most first; bounded."""
        with self._lock:
            heard = self._tally.take()
        if not heard:
            return ()
        heard.sort(key=lambda each: -each.count)
        self._untold += sum(each.count for each in heard[MAX_TOLD:])
        naming = self._naming(snapshot, now)
        return tuple(naming.denial(each, now) for each in heard[:MAX_TOLD])

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason."""
        tally = self._tally
        return (
            ("denials not heard", tally.lost),
            ("denials over limit", tally.overflow + self._untold),
            ("denials unreadable", tally.unreadable),
            ("denials of own probes", tally.probes),
        )

    def close(self) -> None:
        """Stop hearing."""
        self._stopping.set()
        self._thread.join()
        if self._link is not None:
            self._link.close()

    def _naming(self, snapshot: Snapshot, now: int) -> Naming:
        """Made once for the same documents and workloads."""
        policies = self._documents()
        known = self._judges
        if known is None or known[0] is not policies or known[1] != snapshot:
            self._judges = known = (policies, snapshot, Naming(policies, snapshot))
        return known[2]

    def _hear(self) -> None:
        while not self._stopping.is_set():
            if self._link is None:
                if self._stopping.wait(AGAIN_S):
                    return
                self._link = _open()
                continue
            try:
                data = self._link.recv(nflog.BUFFER_SIZE)
            except TimeoutError:
                continue
            except OSError as error:
                log.warning("denials are not heard any more: %s", error)
                self._link.close()
                self._link = None
                continue
            with self._lock:
                self._tally.add(data, time.time_ns())


def _open() -> socket.socket | None:
    try:
        link = nflog.listen()
    except (NetwatchError, OSError) as error:
        log.warning("%s", error)
        return None
    link.settimeout(LOOK_S)
    return link


class Naming:
    """Who is behind the addresses of a snapshot, and what the documents say about them."""

    def __init__(self, policies: Sequence[Policy], snapshot: Snapshot) -> None:
        world = world_of(snapshot)
        self._host = snapshot.host
        self._names = names_of(snapshot)
        self._enforced = Judge(policies, world, ENFORCED)
        self._staged = Judge(policies, world, STAGED)

    def denial(self, heard: nflog.Heard, now: int) -> Denial:
        """The denial with names, and the document that decides it now or isolates an end."""
        source, destination = (
            self._names.by_address.get(address) for address in (heard.source, heard.destination)
        )
        document, file, line, claimed = None, None, None, None
        if heard.kind == "spoofed":
            claimed, source = heard.source, self._names.by_interface.get(heard.interface)
        if heard.kind in ("denied", "would-deny"):
            judge = self._enforced if heard.kind == "denied" else self._staged
            decision = judge.decide(
                self._party(source, heard.source),
                self._party(destination, heard.destination),
                heard.protocol,
                heard.port,
                now=now,
            )
            if decision.policy is not None and decision.verdict == "deny":
                place = decision.rule.place if decision.rule else decision.policy.place
                document, file, line = decision.policy.title, place.file, place.line
        return Denial(
            f"external:{claimed}" if claimed and not source else self._id(source, heard.source),
            self._id(destination, heard.destination),
            heard.protocol,
            heard.port,
            heard.kind,
            document,
            file,
            line,
            heard.count,
            heard.first,
            heard.last,
            claimed,
        )

    def _party(self, workload: Workload | None, address: str) -> Party:
        return Party(workload, address, host=workload is None and address in self._names.own)

    def _id(self, workload: Workload | None, address: str) -> str:
        if workload is not None:
            return workload.identity
        return f"host:{self._host}" if address in self._names.own else f"external:{address}"

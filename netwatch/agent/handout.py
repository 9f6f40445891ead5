"""What the controller handed out: kept on disk, given force once, confirmed or gone back from.

Each decision of the controller is carried out once. Whoever changes the rules by hand on the host
afterwards (`netwatch host`) has his way until the next decision or a restart of the agent, and the
report says so. An agent that only observes touches no rule: it judges flows by the documents.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from netwatch.enforce import confirm, host, quarantine, standing
from netwatch.enforce.kernel import AUTO, Busy
from netwatch.model.errors import NetwatchError
from netwatch.model.policy_version import NO_DOCUMENTS, Wanted, digest_of
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND, passed
from netwatch.policy.document import check_together, parse
from netwatch.policy.ir import Policy

log = logging.getLogger("netwatch.agent")

AGAIN = 5 * SECOND  # after a failure; one try costs about 50 ms
LOST = 20 * SECOND  # no answer while an apply waits: its rules may have cut the controller off
FILE = "policies.json"


@dataclass(frozen=True, slots=True)
class _Held:
    """One decision with its documents; `told` False: it is what the disk kept."""

    wanted: Wanted
    policies: tuple[Policy, ...]
    problem: str | None
    told: bool

    @property
    def key(self) -> tuple[int, str, bool, bool]:
        final = self.wanted.confirm_s is None
        return self.wanted.turn, self.wanted.sha256, final, self.told


class Handout:
    """`take` and `holds` may be called from any thread, `settle` from the agent's loop only."""

    def __init__(self, folder: Path, *, enforce: bool, drain: bool = False) -> None:
        """`folder` keeps the policies that are to stay, for the time without a controller.

        `drain`: live sessions that a new version forbids are left to end by themselves.
        """
        self.enforce = enforce
        self._drain = drain
        self.problem: str | None = None
        self._file = folder / FILE
        self._held = _read(self._file)
        self._answers = 0
        self._heard = (0, 0)
        self._done: _Held | None = None
        self._failed: _Held | None = None
        self._again = 0

    def take(self, wanted: Wanted | None) -> None:
        """What an answer of the controller wants in force; None: nothing was ever applied."""
        self._answers += 1
        held = self._held
        if wanted is None:
            return
        if held is not None and held.wanted.sha256 == wanted.sha256:
            wanted = replace(wanted, documents=held.wanted.documents)
            self._held = replace(held, wanted=wanted, told=True)
        elif wanted.documents is not None:
            self._held = _judged(wanted, told=True)
        # Else the answer is to what was held a moment ago; the next one has the documents.

    def holds(self) -> str:
        """The hash of the documents that need not be sent again."""
        return self._held.wanted.sha256 if self._held else ""

    def drafted(self) -> tuple[Policy, ...] | None:
        """For an agent that only observes: what would be in force; None: judge by what is."""
        held = self._held
        return held.policies if held and not held.problem and not self.enforce else None

    def settle(self, snapshot: Snapshot, now: int) -> None:
        """Carry out what was decided. `snapshot` says who is quarantined.

        Raises nothing: `problem` says what could not be done; the rules from before stay then.
        """
        if not self.enforce:
            return
        if self._answers != self._heard[0]:
            self._heard = self._answers, now
        held = self._held
        try:
            self._go_back(snapshot, now)
            self._obey(held, snapshot, now)
        except Busy:
            return  # the next round
        except (NetwatchError, OSError) as error:
            self.problem = str(error)
            self._failed, self._again = held, now + AGAIN
            log.error("the controller's policies could not be given force: %s", error)

    def _go_back(self, snapshot: Snapshot, now: int) -> None:
        """What nobody can confirm any more is undone (semantics 4)."""
        ours = self._done is not None and self._done.wanted.confirm_s is not None
        lost = ours and now - self._heard[1] > LOST
        if (lost and confirm.pending()) or confirm.overdue(now):
            log.warning("the policies were not confirmed: back to those before")
            confirm.roll_back(None, lambda: snapshot, now=now)

    def _obey(self, held: _Held | None, snapshot: Snapshot, now: int) -> None:
        if held is None or (self._done and held.key == self._done.key):
            return
        waits = not passed(self._again - AGAIN, now, AGAIN)
        if self._failed and held.key == self._failed.key and waits:
            return
        if held.problem:
            raise NetwatchError(held.problem)
        standing.refuse_off()
        self._carry_out(held, snapshot, now)
        self._done, self.problem = held, None

    def _carry_out(self, held: _Held, snapshot: Snapshot, now: int) -> None:
        applied, wanted = host.applied(), held.wanted
        there = (applied.sha256 if applied else NO_DOCUMENTS) == wanted.sha256
        backend, drain = applied.backend if applied else AUTO, self._drain
        if not held.told and confirm.pending():
            return  # the process that waits for the time takes care of it
        if wanted.confirm_s is not None:
            if not there:
                left = max(1, math.ceil(wanted.confirm_s))
                with self._files(wanted) as files:
                    confirm.apply(
                        files, snapshot, backend=backend, now=now, seconds=left, drain=drain
                    )
                log.info("version %d is in force, to be confirmed in %d s", wanted.version, left)
            return
        if there and confirm.pending():
            confirm.confirm()
        elif not there:
            with self._files(wanted) as files:
                quarantine.enforce_only(files, snapshot, backend=backend, now=now, drain=drain)
            with suppress(NetwatchError):  # what waited is replaced, and need not be undone
                confirm.confirm()
            log.info("version %d is in force", wanted.version)
        _keep(self._file, wanted)

    @contextmanager
    def _files(self, wanted: Wanted) -> Iterator[tuple[Path, ...]]:
        """The documents as files, in their order."""
        with tempfile.TemporaryDirectory(dir=self._file.parent) as folder:
            files = []
            for number, document in enumerate(wanted.documents or ()):
                file = Path(folder, f"{number:04d}.yaml")
                file.write_bytes(document.text.encode())
                files.append(file)
            yield tuple(files)


def _judged(wanted: Wanted, *, told: bool) -> _Held:
    """With its policies read, or with the reason why they can not be."""
    documents = wanted.documents or ()
    try:
        policies = tuple(p for d in documents for p in parse(d.text, d.name))
        check_together(policies)
    except NetwatchError as error:
        return _Held(wanted, (), f"version {wanted.version} can not be read here: {error}", told)
    if digest_of(document.text for document in documents) != wanted.sha256:
        return _Held(wanted, (), f"version {wanted.version} does not have its own hash", told)
    return _Held(wanted, policies, None, told)


def _read(file: Path) -> _Held | None:
    """What was kept; a damaged file is as good as none, for the controller sends it again."""
    try:
        return _judged(msgspec.json.decode(file.read_bytes(), type=Wanted), told=False)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.error("%s can not be read and is left out: %s", file, error)
        return None


def _keep(file: Path, wanted: Wanted) -> None:
    """Whole or not at all, also where the power fails."""
    part = file.with_suffix(".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(msgspec.json.encode(wanted))
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)

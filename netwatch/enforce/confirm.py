"""Commit-confirm: what nobody confirms in time is undone, by a process of its own."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from netwatch.enforce import host, kernel, quarantine
from netwatch.kernel import commands
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.policy.files import policy_files

PATIENCE_S = 30.0  # others hold the lock of the rules for a second at most
PAUSE_S = 0.05
GRACE = 5 * SECOND  # within it the process that waits for the time has done its work


def _pending() -> Path:
    return host.folder().with_name(f"{host.folder().name}.pending")


def _undoing() -> Path:
    return host.folder().with_name(f"{host.folder().name}.undoing")


def _previous() -> Path:
    return host.folder().with_name(f"{host.folder().name}.previous")


def complaints() -> BinaryIO:
    """The file that keeps what a roll-back that failed had to say."""
    path = host.folder().with_name(f"{host.folder().name}.rollback.log")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("wb")


def pending() -> bool:
    """Whether an apply waits for its confirmation, or is being undone."""
    return _pending().exists() or _undoing().exists()


def overdue(now: int) -> bool:
    """Whether one waits whose time is over, so that the process that should undo it is gone."""
    for path in (_pending(), _undoing()):
        with suppress(FileNotFoundError, ValueError):
            return int(path.read_text().partition(" ")[2]) + GRACE < now
    return False


def refuse_pending() -> None:
    """Raise NetwatchError while an apply waits for its confirmation."""
    if pending():
        raise NetwatchError(
            "an apply on this host waits for its confirmation",
            "netwatch host confirm keeps it; otherwise it is undone by itself",
        )


def apply(
    files: Sequence[Path],
    snapshot: Snapshot,
    *,
    backend: str,
    now: int,
    seconds: int,
    drain: bool = False,
) -> host.Preview:
    """`host.apply`, undone after `seconds` unless `confirm` is called before.

    While another apply waits, this one takes its place: both are undone together. Whoever does
    not want that calls `refuse_pending` before.
    """
    previous, current = _previous(), host.folder() / "policies"
    if _undoing().exists():
        raise kernel.Busy("what was not confirmed is being undone", "try again when it has ended")
    before = _pending().read_text() if pending() else None
    if before is None:
        shutil.rmtree(previous, ignore_errors=True)
        if current.is_dir():
            shutil.copytree(current, previous)
    token = secrets.token_hex(8)
    previous.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _pending().write_text(f"{token} {now + seconds * SECOND}")
    guard = [sys.executable, "-m", "netwatch", "host", "rollback", token, str(seconds)]
    watcher = commands.start(guard)  # before the change, so that it outlives us in any case
    try:
        return host.apply(files, snapshot, backend=backend, now=now, drain=drain)
    except NetwatchError:
        if before is None:
            _pending().unlink(missing_ok=True)
        else:
            _pending().write_text(before)
        watcher.kill()
        watcher.wait()
        raise


def confirm() -> None:
    """Keep what was applied; raises NetwatchError if nothing waits."""
    try:
        _pending().unlink()
    except FileNotFoundError:
        raise NetwatchError(
            "no apply waits for a confirmation here", "it was confirmed, or undone in time"
        ) from None
    shutil.rmtree(_previous(), ignore_errors=True)
    host.stand()


def drop() -> None:
    """Nothing waits any more, and nothing is undone: what is in force is taken away at once."""
    for path in (_pending(), _undoing()):
        path.unlink(missing_ok=True)
    shutil.rmtree(_previous(), ignore_errors=True)


def roll_back(token: str | None, look: Callable[[], Snapshot], *, now: int) -> bool:
    """Undo the apply of this token unless it was confirmed: the policies before it, or none.

    None: whichever waits. Somebody who changes the rules at this moment is waited for. Returns
    whether there was something to undo.
    """
    if not _claimed(token):
        return False
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            _undo(look(), now=now)
            return True
        except kernel.Busy:
            if time.monotonic() > deadline:
                _undoing().replace(_pending())
                raise
        except NetwatchError:
            _undoing().replace(_pending())
            raise
        time.sleep(PAUSE_S)


def _claimed(token: str | None) -> bool:
    """Whether it is ours to undo; from then on it is too late to confirm."""
    for path in (_pending(), _undoing()):
        with suppress(FileNotFoundError):
            if token in (None, path.read_text().partition(" ")[0]):
                path.replace(_undoing())
                return True
    return False


def _undo(snapshot: Snapshot, *, now: int) -> None:
    previous = _previous()
    files = policy_files([previous]) if previous.is_dir() else ()
    if files or quarantine.quarantined():  # a roll-back releases nobody
        state = host.applied()
        backend = state.backend if state else "auto"
        quarantine.enforce_only(files, snapshot, backend=backend, now=now)
    else:
        host.remove()
    _undoing().unlink(missing_ok=True)
    shutil.rmtree(previous, ignore_errors=True)

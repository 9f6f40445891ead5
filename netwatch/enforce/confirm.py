"""Commit-confirm: what nobody confirms in time is undone, by a process of its own."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from netwatch.enforce import host, quarantine
from netwatch.kernel import commands
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot
from netwatch.policy.files import policy_files


def _pending() -> Path:
    return host.folder().with_name(f"{host.folder().name}.pending")


def _previous() -> Path:
    return host.folder().with_name(f"{host.folder().name}.previous")


def complaints() -> BinaryIO:
    """The file that keeps what a roll-back that failed had to say."""
    path = host.folder().with_name(f"{host.folder().name}.rollback.log")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("wb")


def refuse_pending() -> None:
    """Raise NetwatchError while an apply waits for its confirmation."""
    if _pending().exists():
        raise NetwatchError(
            "an apply on this host waits for its confirmation",
            "netwatch host confirm keeps it; otherwise it is undone by itself",
        )


def apply(
    files: Sequence[Path], snapshot: Snapshot, *, backend: str, now: int, seconds: int
) -> host.Preview:
    """`host.apply`, undone after `seconds` unless `confirm` is called before."""
    refuse_pending()
    previous, current = _previous(), host.folder() / "policies"
    shutil.rmtree(previous, ignore_errors=True)
    if current.is_dir():
        shutil.copytree(current, previous)
    token = secrets.token_hex(8)
    previous.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _pending().write_text(token)
    guard = [sys.executable, "-m", "netwatch", "host", "rollback", token, str(seconds)]
    watcher = commands.start(guard)  # before the change, so that it outlives us in any case
    try:
        return host.apply(files, snapshot, backend=backend, now=now)
    except NetwatchError:
        _pending().unlink(missing_ok=True)
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


def roll_back(token: str, look: Callable[[], Snapshot], *, now: int) -> None:
    """Undo the apply of this token unless it was confirmed: the policies before it, or none."""
    pending, previous = _pending(), _previous()
    try:
        if pending.read_text() != token:
            return
    except FileNotFoundError:
        return
    files = policy_files([previous]) if previous.is_dir() else ()
    if files or quarantine.quarantined():  # a roll-back releases nobody
        state = host.applied()
        backend = state.backend if state else "auto"
        quarantine.enforce_only(files, look(), backend=backend, now=now)
    else:
        host.remove()
    pending.unlink(missing_ok=True)
    shutil.rmtree(previous, ignore_errors=True)

"""The folder that one controller owns: its lock, and the token that only its owner reads."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from netwatch.model.errors import NetwatchError


def guard(folder: Path) -> int:
    """Holds the folder for this process, until the descriptor is closed or the process ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise NetwatchError(
            f"another netwatch controller is using {folder}",
            "stop it, or choose another folder with --state",
            code="state-in-use",
        ) from None
    return descriptor


def kept_token(file: Path) -> str:
    """The token in that file; a new one of 256 bits if it is not there."""
    if file.is_file() and (kept := file.read_text().strip()):
        return kept
    token = secrets.token_urlsafe(32)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(token + "\n")
    return token

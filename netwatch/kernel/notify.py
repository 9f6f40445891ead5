"""Tells systemd that a service is ready, alive or stopping: the protocol of sd_notify(3)."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(path: str | None, *lines: str) -> None:
    """Send these lines to the socket at `path` (the variable NOTIFY_SOCKET); None: no systemd.

    A leading `@` means the abstract namespace. Never blocks and never raises: a service must not
    end because nobody listens.
    """
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, suppress(OSError):
        out.setblocking(False)
        out.sendto("\n".join(lines).encode(), address)


def alive_every_s(watchdog_usec: str | None) -> float | None:
    """How often to send ALIVE: half of what systemd says in WATCHDOG_USEC, or None: not asked."""
    text = watchdog_usec or ""
    return int(text) / 2_000_000 if text.isascii() and text.isdigit() and int(text) else None


class Pulse:
    """Proof that a loop still turns: it beats, and others ask when it did last."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        """The loop has done a round."""
        self._last = time.monotonic()

    def beats(self, within_s: float) -> bool:
        """Whether the last round ended less than so many seconds ago."""
        return time.monotonic() - self._last < within_s

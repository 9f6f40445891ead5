"""Who may come in: sessions of people, and how often a login may be tried.

Sessions live in memory only, so a restart of the controller ends them. Times are nanoseconds and
always an argument. Limits follow OWASP ASVS 5.0: 7.2.3 (128 bits of randomness), 7.3.1 and 7.3.2
(idle and absolute end), 6.3.1 (brute force).
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from netwatch.model.times import SECOND

IDLE = 30 * 60 * SECOND
ABSOLUTE = 12 * 3600 * SECOND
MAX_SESSIONS = 1000  # the one idle for longest makes room
FREE_ATTEMPTS = 5
FIRST_DELAY = 60 * SECOND
LONGEST_DELAY = 15 * 60 * SECOND
MAX_ADDRESSES = 10_000  # some 2 MB; the address silent for longest is forgotten first


@dataclass(slots=True)
class _Session:
    opened: int
    used: int


class Sessions:
    """Which session ids are valid; keeps only their hashes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def open(self, now: int) -> str:
        """A new session id of 256 random bits; never one that a client brought along."""
        id = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.popitem(last=False)
            self._sessions[_digest(id)] = _Session(opened=now, used=now)
        return id

    def valid(self, id: str, now: int, *, renew: bool) -> bool:
        """Whether the session lives; `renew` counts this as use by a person."""
        key = _digest(id)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return False
            if now - session.used >= IDLE or now - session.opened >= ABSOLUTE:
                del self._sessions[key]
                return False
            if renew:
                session.used = max(session.used, now)
                self._sessions.move_to_end(key)
            return True

    def close(self, id: str) -> None:
        """Ends the session; an unknown one is no error."""
        with self._lock:
            self._sessions.pop(_digest(id), None)


@dataclass(slots=True)
class _Failures:
    count: int
    last: int


class Attempts:
    """Failed logins by address: five are free, then each one doubles the wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait(self, address: str, now: int) -> int:
        """Nanoseconds until this address may try again; 0 is now."""
        with self._lock:
            failures = self._failures.get(address)
            if failures is None or failures.count < FREE_ATTEMPTS:
                return 0
            return max(0, failures.last + _delay(failures.count) - now)

    def failed(self, address: str, now: int) -> None:
        """Count a wrong token; what is older than the longest wait is forgotten."""
        with self._lock:
            failures = self._failures.pop(address, None)
            quiet = FIRST_DELAY if failures and failures.count < FREE_ATTEMPTS else LONGEST_DELAY
            if failures is None or now - failures.last > quiet:
                failures = _Failures(0, now)
            while len(self._failures) >= MAX_ADDRESSES:
                self._failures.popitem(last=False)
            self._failures[address] = _Failures(failures.count + 1, now)

    def succeeded(self, address: str) -> None:
        """The right token was given: nothing is held against this address."""
        with self._lock:
            self._failures.pop(address, None)


def _delay(count: int) -> int:
    return min(FIRST_DELAY << min(count - FREE_ATTEMPTS, 10), LONGEST_DELAY)


def _digest(id: str) -> bytes:
    return hashlib.sha256(id.encode("utf-8", "surrogateescape")).digest()

"""Nanoseconds: as the RFC 3339 text that people and programs read; whether some have passed."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000_000_000


def passed(since: int, now: int, period: int) -> bool:
    """Whether `period` has passed since then. A clock that was set back hastens what is due every
    so often, and never delays it until it shows that time again.
    """
    return not 0 <= now - since < period


def rfc3339(nanoseconds: int | None) -> str | None:
    """`2026-11-22T02:20:05.123456Z`, always with microseconds; None stays None (RFC 3339)."""
    if nanoseconds is None:
        return None
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{_whole(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=4096)
def _whole(seconds: int) -> str:
    """Up to the seconds: what is seen together lies within a few minutes of each other."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="seconds")


def nanoseconds(text: str) -> int:
    """The inverse of `rfc3339`; raises ValueError on anything that is not an RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone; write it like 2026-11-22T02:20:05Z")
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * SECOND + moment.microsecond * 1000

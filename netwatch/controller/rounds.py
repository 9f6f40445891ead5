"""What the controller does every so often, whatever happens to the clock meanwhile."""

from __future__ import annotations

from netwatch.model.times import SECOND

LONGEST = 60 * SECOND  # that anything waits: what lies later was put down before the clock was set
BROKEN = 30 * SECOND  # without a round, or back: the machine slept, or its clock was set


class Rounds:
    """When each task is due next. Times are those that tick() is given."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._last: int | None = None

    def is_due(self, what: str, now: int, period: int) -> bool:
        """Whether it is time for it; the next time is `period` later."""
        due = not 0 < self._due.get(what, 0) - now <= LONGEST
        if due:
            self._due[what] = now + period
        return due

    def rest(self, what: str, now: int, pause: int) -> None:
        """Not before `pause` has passed, at most LONGEST."""
        self._due[what] = now + min(pause, LONGEST)

    def broken(self, now: int) -> bool:
        """Whether the clock went back, or on by more than rounds take, since the round before."""
        last, self._last = self._last, now
        return last is not None and not -SECOND <= now - last <= BROKEN

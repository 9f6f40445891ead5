"""Which hosts were observed when, for tests that say it themselves."""

from __future__ import annotations

from netwatch.graph.coverage import Slot, Span
from netwatch.model.times import SECOND


class FakeCoverage:
    """Every host was observed always, but for `unseen`."""

    def __init__(self, now: int) -> None:
        self._now = now
        self.unseen: tuple[Span, ...] = ()

    def gaps(self, since: int | None, until: int | None) -> tuple[Span, ...]:
        """Whole gaps that touch the period."""
        start, end = since or 0, until or 0
        return tuple(gap for gap in self.unseen if gap.since < end and gap.until > start)

    def slots(self, since: int, until: int, number: int) -> tuple[Slot, ...]:
        """Of three hosts."""
        width = (until - since) / number
        touched = [
            {g.host for g in self.gaps(int(since + n * width), int(since + (n + 1) * width))}
            for n in range(number)
        ]
        return tuple(Slot(3 - len(hosts), 3) for hosts in touched)

    def first(self) -> int | None:
        return self._now - 30 * 86_400 * SECOND

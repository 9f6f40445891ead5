"""The denials that hosts reported lately, summed by minute; in memory, because they are samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from netwatch.model.denial import Denial
from netwatch.model.times import SECOND

MINUTE = 60 * SECOND
KEPT = 10 * MINUTE
MAX_KEPT = 20_000  # sums; a port scan makes one for each port


class Denials:
    """Sums by ends, port, kind and minute. The caller sees to it that one thread at a time asks."""

    def __init__(self) -> None:
        self._sums: dict[tuple[object, ...], Denial] = {}
        self.dropped = 0

    def learn(self, denials: Iterable[Denial]) -> None:
        """Add what a report said."""
        for denial in denials:
            key = (
                *(denial.source, denial.destination, denial.protocol, denial.port, denial.kind),
                *(denial.document, denial.line, denial.last // MINUTE),
            )
            known = self._sums.get(key)
            if known is not None:
                self._sums[key] = replace(
                    known,
                    count=known.count + denial.count,
                    first=min(known.first, denial.first),
                    last=max(known.last, denial.last),
                )
            elif len(self._sums) < MAX_KEPT:
                self._sums[key] = denial
            else:
                self.dropped += denial.count

    def recent(self, now: int) -> tuple[Denial, ...]:
        """The sums of the last ten minutes; older ones are forgotten."""
        self._sums = {k: d for k, d in self._sums.items() if d.last > now - KEPT}
        return tuple(self._sums.values())

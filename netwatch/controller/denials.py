"""The denials that hosts reported lately, summed by minute. In memory: they are samples."""

from __future__ import annotations

from dataclasses import replace

from netwatch.model.denial import Denial
from netwatch.model.report import Report
from netwatch.model.times import SECOND

MINUTE = 60 * SECOND
KEPT = 10 * MINUTE
MAX_KEPT = 20_000  # sums; a port scan makes one for each port


class Denials:
    """Sums by ends, port, kind and minute. The caller lets in one thread at a time."""

    def __init__(self, *, room: int = MAX_KEPT) -> None:
        self._room = room
        self._sums: dict[tuple[object, ...], Denial] = {}
        self.dropped = 0

    def learn(self, report: Report) -> None:
        """Add what a host says of itself: one end at least must be its own."""
        for denial in report.denials:
            if not any(_is_of(report.host, id) for id in (denial.source, denial.destination)):
                self.dropped += denial.count
                continue
            key = (
                *(denial.source, denial.destination, denial.protocol, denial.port, denial.kind),
                *(denial.document, denial.line, denial.claimed, denial.last // MINUTE),
            )
            known = self._sums.get(key)
            if known is not None:
                self._sums[key] = replace(
                    known,
                    count=known.count + denial.count,
                    first=min(known.first, denial.first),
                    last=max(known.last, denial.last),
                )
            elif len(self._sums) < self._room:
                self._sums[key] = denial
            else:
                self.dropped += denial.count

    def recent(self, now: int) -> tuple[Denial, ...]:
        """The sums of the last ten minutes; older ones are forgotten."""
        self._sums = {k: d for k, d in self._sums.items() if d.last > now - KEPT}
        return tuple(self._sums.values())


def _is_of(host: str, id: str) -> bool:
    return id == f"host:{host}" or id.startswith(f"{host}/")

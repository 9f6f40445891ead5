"""What was not observed in a time that somebody asks for, as far as the history knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from netwatch.controller.history import History
from netwatch.detect.silence import AFTER
from netwatch.graph import coverage
from netwatch.graph.coverage import Slot, Span

GAPS_LIMIT = 1_000  # of an answer


class Coverage:
    """Reads the spans of a history."""

    def __init__(self, history: History, clock: Callable[[], int]) -> None:
        self._history = history
        self._clock = clock

    def gaps(self, since: int | None, until: int | None) -> tuple[Span, ...]:
        """Where a known host was not observed within a period, the longest GAPS_LIMIT of them.

        Now (`until` is None) is no such period: who is silent at this moment, hosts() tells.
        """
        if until is None:
            return ()
        now = self._clock()
        spans = _going_on(self._history.spans(since or 0, until), now)
        found = coverage.gaps(spans, since or 0, min(until, now))
        if len(found) > GAPS_LIMIT:
            found = tuple(sorted(found, key=lambda gap: gap.since - gap.until)[:GAPS_LIMIT])
        return tuple(sorted(found, key=lambda gap: (gap.host, gap.since)))

    def slots(self, since: int, until: int, number: int) -> tuple[Slot, ...]:
        """The period in `number` equal pieces, each with the hosts that were observed in it."""
        now = self._clock()
        spans = _going_on(self._history.spans(since, until), now)
        return coverage.slots(spans, since, until, number=number, now=now)

    def first(self) -> int | None:
        """When the first report began that is remembered."""
        return min((span.since for span in self._history.spans(0, 2**62)), default=None)


def _going_on(spans: Sequence[Span], now: int) -> list[Span]:
    """A host that is not silent yet is observed until now: its next report is under way."""
    last = {span.host: span for span in sorted(spans, key=lambda span: span.until)}
    return [
        replace(span, until=max(span.until, now))
        if span is last[span.host] and now - span.until <= AFTER
        else span
        for span in spans
    ]

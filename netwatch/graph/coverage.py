"""What was not observed: the gaps between the spans in which hosts were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A host, and a stretch of time [since, until) in nanoseconds."""

    host: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A piece of time: how many of the `known` hosts were `observed` for all of it."""

    observed: int
    known: int


def gaps(spans: Iterable[Span], since: int, until: int) -> tuple[Span, ...]:
    """Where a host was not observed within [since, until), by host and time.

    A host is known from its first span on: what lies before it is no gap.
    """
    found: list[Span] = []
    for host, mine in sorted(_by_host(spans).items()):
        seen = max(since, mine[0].since)
        for span in mine:
            if span.since > seen:
                found.append(Span(host, seen, min(span.since, until)))
            seen = max(seen, span.until)
        if seen < until:
            found.append(Span(host, seen, until))
    return tuple(gap for gap in found if gap.since < gap.until)


def slots(
    spans: Sequence[Span], since: int, until: int, *, number: int, now: int
) -> tuple[Slot, ...]:
    """[since, until) in `number` equal pieces; of what lies after `now` nothing is known."""
    edges = [since + (until - since) * n // number for n in range(number + 1)]
    known = [0] * number
    missing: list[set[str]] = [set() for _ in range(number)]
    for host, mine in _by_host(spans).items():
        for n in range(number):
            known[n] += mine[0].since < edges[n + 1] and edges[n] < now
        for gap in gaps(mine, since, min(until, now)):
            first = (gap.since - since) * number // (until - since)
            for n in range(first, number):
                if edges[n] >= gap.until:
                    break
                if edges[n + 1] > gap.since:
                    missing[n].add(host)
    return tuple(
        Slot(max(0, all - len(gone)), all) for all, gone in zip(known, missing, strict=True)
    )


def _by_host(spans: Iterable[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        found[span.host].append(span)
    for mine in found.values():
        mine.sort(key=lambda span: (span.since, span.until))
    return found

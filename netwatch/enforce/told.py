"""A region told from its shorter side: a few ports that are permitted, or all but a few.

What is permitted for every protocol is told by what it leaves out. So "everything but these ports"
costs one member for each port left out, and not a rule for each range between two of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from netwatch.enforce.regions import OTHER, PORTED, Region, Span, joined, less, united

MAX_WIDTH = 64  # ports of one range as members; above it the range becomes a rule
MAX_EVENT = 2000  # members that one container's start may add
MAX_BARRED = MAX_EVENT // 4  # of one region: there are two directions, and pairs and networks

Spot = tuple[str, int]
"""A protocol and one port."""


class Told(NamedTuple):
    """A region beside a base that is permitted anyway: `few` and `wide` less `barred` and `long`.

    `wide` holds None for everything; `long` are what is left out and too long for members.
    """

    region: Region
    few: Region = ()
    wide: tuple[Span | None, ...] = ()
    barred: frozenset[Spot] = frozenset()
    long: Region = ()

    @property
    def speaks(self) -> bool:
        """Whether it is any different from the base."""
        return bool(self.few or self.wide or self.barred or self.long)

    def holds(self, spot: Spot) -> bool:
        """Whether this port is in the region."""
        protocol, port = spot
        return any(s.protocol == protocol and s.first <= port <= s.last for s in self.region)


def told(region: Region, *, base: Region, whole: Region) -> Told:
    """`region` beside `base`; what is `whole` holds the protocols that nobody named, too."""
    if region == base:
        return Told(region)
    if base == whole:
        return Told(region, (), (), *_without(less(whole, region)))
    if is_default(region):
        return Told(region, (), (None,), *_without(less(whole, region)))
    hulls = _hulls(span for span in region if less((span,), base))
    few = tuple(span for span in hulls if is_narrow(span))
    wide = tuple(span for span in hulls if not is_narrow(span))
    return Told(region, few, wide, *_without(less(united(base, wide), region)))


def is_default(region: Region) -> bool:
    """Whether protocols that nobody named are in it: then it is told by what it leaves out."""
    return any(span.protocol == OTHER for span in region)


def is_narrow(span: Span) -> bool:
    """Whether its ports may be members."""
    return span.protocol in PORTED and span.last - span.first < MAX_WIDTH


def spots(region: Region) -> frozenset[Spot]:
    """Every port of narrow spans."""
    return frozenset(
        (span.protocol, port) for span in region for port in range(span.first, span.last + 1)
    )


def spans(chosen: Iterable[Spot]) -> Region:
    """These ports as spans, each narrow."""
    return tuple(
        Span(span.protocol, first, min(first + MAX_WIDTH - 1, span.last))
        for span in joined(Span(protocol, port, port) for protocol, port in chosen)
        for first in range(span.first, span.last + 1, MAX_WIDTH)
    )


def _without(region: Region) -> tuple[frozenset[Spot], Region]:
    """What is left out, as ports and as spans; the longest are spans where ports are many."""
    narrow = sorted(filter(is_narrow, region), key=lambda span: span.last - span.first)
    while sum(span.last - span.first + 1 for span in narrow) > MAX_BARRED:
        narrow.pop()
    kept = frozenset(narrow)
    return spots(tuple(narrow)), tuple(span for span in region if span not in kept)


def _hulls(region: Iterable[Span]) -> Region:
    """Long spans together with what follows or precedes them after a narrow gap."""
    hulls: list[Span] = []
    for span in region:
        if hulls and _meets(hulls[-1], span):
            hulls[-1] = Span(span.protocol, hulls[-1].first, span.last)
        else:
            hulls.append(span)
    return tuple(hulls)


def _meets(one: Span, following: Span) -> bool:
    gap = following.first - one.last - 1
    near = one.protocol == following.protocol in PORTED and gap <= MAX_WIDTH
    return near and not (is_narrow(one) and is_narrow(following))

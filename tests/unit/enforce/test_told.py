"""Regions are told from their shorter side, and what is told is the region again."""

from __future__ import annotations

import random

import pytest

from netwatch.enforce.regions import Region, Span, full, joined, less, united
from netwatch.enforce.told import MAX_BARRED, MAX_WIDTH, Told, is_default, is_narrow, spans, told

WHOLE = full(("tcp", "udp", "sctp", "icmp", "other"))
SSH, WEB = Span("tcp", 22, 22), Span("tcp", 80, 80)
LONG = Span("tcp", 100, 1000)


def rebuilt(said: Told, base: Region) -> Region:
    """What members and rules permit together."""
    wide = WHOLE if None in said.wide else tuple(span for span in said.wide if span)
    left = less(united(base, wide), (*spans(said.barred), *said.long))
    return united(left, said.few)


def drawn(draw: random.Random) -> Region:
    """A few spans, or everything but a few."""
    some = []
    for _ in range(draw.randrange(5)):
        first = draw.randrange(65536)
        some.append(
            Span(draw.choice(("tcp", "udp")), first, min(first + draw.choice((0, 9, 5000)), 65535))
        )
    return less(WHOLE, joined(some)) if draw.random() < 0.5 else joined(some)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_told_is_the_region(seed: int) -> None:
    draw = random.Random(seed)
    region, narrow = drawn(draw), tuple(filter(is_narrow, drawn(draw)))
    for base in (WHOLE, narrow, ()):
        if base != WHOLE or is_default(region):
            assert rebuilt(told(region, base=base, whole=WHOLE), base) == region


@pytest.mark.parametrize(
    ("region", "base", "expected"),
    [
        pytest.param((WEB,), (), Told((WEB,), few=(WEB,)), id="a port is a member"),
        pytest.param((LONG,), (), Told((LONG,), wide=(LONG,)), id="a long range is a rule"),
        pytest.param(
            less(WHOLE, (SSH,)),
            WHOLE,
            Told(less(WHOLE, (SSH,)), barred=frozenset({("tcp", 22)})),
            id="an open end that keeps a port needs no rule",
        ),
        pytest.param(
            less(WHOLE, (SSH,)),
            (),
            Told(less(WHOLE, (SSH,)), wide=(None,), barred=frozenset({("tcp", 22)})),
            id="everything but a port is one rule",
        ),
        pytest.param(
            less(WHOLE, (LONG,)),
            WHOLE,
            Told(less(WHOLE, (LONG,)), long=(LONG,)),
            id="a long range that is kept is a rule",
        ),
        pytest.param(
            (Span("tcp", 0, 21), Span("tcp", 23, 65535)),
            (),
            Told(
                (Span("tcp", 0, 21), Span("tcp", 23, 65535)),
                wide=(Span("tcp", 0, 65535),),
                barred=frozenset({("tcp", 22)}),
            ),
            id="two long ranges around a port are one rule",
        ),
        pytest.param((WEB,), (WEB,), Told((WEB,)), id="the base itself costs nothing"),
    ],
)
def test_a_region_costs_this(region: Region, base: Region, expected: Told) -> None:
    assert told(region, base=base, whole=WHOLE) == expected


def test_of_many_ports_left_out_the_longest_ranges_are_rules() -> None:
    """So that no container's start adds more members than it may, whatever is denied."""
    holes = [Span("tcp", 1000 * n, 1000 * n + MAX_WIDTH - 1) for n in range(12)]
    said = told(less(WHOLE, holes), base=WHOLE, whole=WHOLE)
    assert len(said.barred) <= MAX_BARRED
    assert len(said.long) == 12 - MAX_BARRED // MAX_WIDTH

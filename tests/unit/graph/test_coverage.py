"""A time that nobody observed is a gap, whoever else observed it."""

from __future__ import annotations

import pytest

from netwatch.graph.coverage import Slot, Span, gaps, slots


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([(0, 100)], [], id="all of it"),
        pytest.param([(0, 30), (40, 100)], [(30, 40)], id="a break"),
        pytest.param([(0, 30), (20, 25), (30, 100)], [], id="spans that overlap and touch"),
        pytest.param([(0, 5)], [(10, 60)], id="it ended before"),
        pytest.param([(40, 60)], [], id="unknown until it began"),
        pytest.param([(0, 20), (50, 55)], [(20, 50), (55, 60)], id="two breaks"),
        pytest.param([(70, 80)], [], id="it began after"),
    ],
)
def test_gaps_lie_between_the_spans_of_a_host(
    spans: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    found = gaps([Span("a", *span) for span in spans], 10, 60)

    assert [(gap.host, gap.since, gap.until) for gap in found] == [("a", *gap) for gap in expected]


def test_a_slot_counts_the_hosts_that_were_observed_for_all_of_it() -> None:
    """`b` is away for a moment of the second slot, `c` is not known before the third."""
    spans = [Span("a", 0, 40), Span("b", 0, 14), Span("b", 15, 40), Span("c", 25, 40)]

    found = slots(spans, 0, 40, number=4, now=40)

    assert found == (Slot(2, 2), Slot(1, 2), Slot(3, 3), Slot(3, 3))


def test_of_the_future_nothing_is_known() -> None:
    assert slots([Span("a", 0, 20)], 0, 40, number=4, now=20)[2:] == (Slot(0, 0), Slot(0, 0))

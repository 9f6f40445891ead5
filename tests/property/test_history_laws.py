"""Sums are exact for every period, whatever was rolled up, and whenever it came."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from netwatch.controller.columns import Named
from netwatch.controller.history import History
from netwatch.controller.statements import FIVE_MINUTES
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from tests.unit.controller.samples import START, Clock, controller, flow, report

SPAN = 3 * FIVE_MINUTES
BASE = START - START % FIVE_MINUTES
moments = st.integers(0, SPAN // SECOND).map(lambda s: BASE + s * SECOND)
deltas = st.tuples(moments, st.integers(0, 3), st.integers(1, 1000), st.booleans())
LAW = settings(max_examples=30, deadline=None)


def named(moment: int, service: int, size: int, plain: bool) -> Named:
    made = Flow(
        client=Endpoint("198.18.0.2", 4),
        server=Endpoint("198.18.1.2", service),
        protocol="tcp",
        first_seen=moment,
        last_seen=moment,
        client_bytes=size,
        client_payload_bytes=size,
        encryption=Encryption("plaintext" if plain else "encrypted", "content"),
        reporter="client",
    )
    return Named(made, "a/n/x", "b/n/y", service, None)


@LAW
@given(
    batches=st.lists(st.tuples(st.lists(deltas, max_size=5), st.booleans()), max_size=6),
    since=st.none() | moments,
    until=st.none() | moments,
)
def test_a_period_sums_to_exactly_its_deltas(
    batches: list[tuple[list[tuple[int, int, int, bool]], bool]],
    since: int | None,
    until: int | None,
) -> None:
    """Rolled up or not, in one bucket or over its borders: every delta counts once."""
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "history.db")
        expected: Counter[int] = Counter()
        plain: set[int] = set()
        for number, (batch, roll) in enumerate(batches):
            made = Report("a", "boot", number, 0, 1)
            history.append(made, [named(*delta) for delta in batch], BASE + SPAN)
            if roll:
                history.roll_up(BASE + 10 * SPAN)
            for moment, service, size, is_plain in batch:
                if (since is None or moment >= since) and (until is None or moment < until):
                    expected[service] += size
                    plain |= {service} if is_plain else set()
        found = history.edges(since, until)
        assert {half.port: half.bytes for half in found} == dict(expected)
        assert {half.port for half in found if half.encryption == "plaintext"} == plain
        history.close()


@settings(LAW, max_examples=8)
@given(order=st.permutations(range(6)))
def test_the_order_of_reports_from_different_hosts_does_not_matter(order: list[int]) -> None:
    """Three reports of a and three of b, mixed in any way, are the same edges and workloads."""
    reports = [
        report("a", flow(sport=1)),
        report("a", flow(sport=2, port=9999), sequence=2, now=START + SECOND),
        report("a", sequence=3, now=START + 2 * SECOND),
        report("b", flow("server", sport=1)),
        report("b", flow("server", sport=7), sequence=2, now=START + SECOND),
        report("b", sequence=3, now=START + 2 * SECOND),
    ]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        shown = []
        for folder, turn in ((first, range(6)), (second, order)):
            opened = controller(Path(folder), Clock())
            for number in turn:
                assert opened.ingest(reports[number])
            shown.append((opened.edges(), opened.workloads(), opened.losses()))
            opened.close()
    assert shown[0] == shown[1]


@settings(LAW, max_examples=8)
@given(turns=st.lists(st.sampled_from([0, 1, 2, 3]), max_size=12))
def test_any_number_of_retries_counts_once(turns: list[int]) -> None:
    reports = [report("a", flow(sport=n), sequence=n, losses=(("x", 1),)) for n in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        opened = controller(Path(folder), Clock())
        answers = [opened.ingest(reports[turn]) for turn in turns]
        assert answers == [turn not in turns[:n] for n, turn in enumerate(turns)]
        assert sum(edge.connections for edge in opened.edges()) == len(set(turns))
        assert opened.losses().get("x", 0) == len(set(turns))
        opened.close()

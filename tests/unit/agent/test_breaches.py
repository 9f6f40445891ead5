"""A broken obligation is refused first and cut then; whatever is not proven is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netwatch.agent.breaches import Breaches
from netwatch.enforce import kernel, refused
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.snapshot import Refused
from tests.unit.agent.rows import START

FLOW = Flow(
    Endpoint("198.18.0.2", 40_000, "a/shop/web"),
    Endpoint("198.18.0.3", 443, "a/shop/api"),
    "tcp",
    START,
    START,
    direction="seen",
    verdict="violated",
)


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "RUN", tmp_path)


def test_a_broken_obligation_is_refused_for_its_time() -> None:
    """Source, destination, protocol and port; the client's port may be another next time."""
    later = START + refused.REFUSED_FOR
    assert Breaches().take([FLOW, replace(FLOW, client=Endpoint("198.18.0.2", 40_001))], START)
    assert refused.read(now=START) == (Refused("198.18.0.2", "198.18.0.3", "tcp", 443, later),)
    assert refused.read(now=later) == ()


@pytest.mark.parametrize(
    "flow",
    [
        pytest.param(replace(FLOW, verdict="allow"), id="kept, or not known"),
        pytest.param(replace(FLOW, verdict="deny"), id="denied anyway"),
        pytest.param(replace(FLOW, verdict="allow", staged="violated"), id="only staged"),
        pytest.param(replace(FLOW, direction="guessed"), id="whose client is guessed"),
    ],
)
def test_what_is_not_proven_is_let_be(flow: Flow) -> None:
    assert not Breaches().take([flow], START)
    assert refused.read(now=START) == ()


def test_a_sum_of_sessions_is_refused_and_counted_but_not_cut() -> None:
    """Nobody can tell which of them it was."""
    breaches = Breaches()
    assert breaches.take([replace(FLOW, client=Endpoint("198.18.0.2", None))], START)
    assert refused.read(now=START)
    assert breaches.losses() == (("broken obligations not cut", 1),)


def test_the_oldest_refusals_go_first_and_a_damaged_file_refuses_nothing() -> None:
    calls = [("198.18.0.2", "198.18.0.3", "tcp", 1 + n) for n in range(refused.MAX_REFUSED + 1)]
    refused.refuse(calls, now=START)
    kept = {each.port for each in refused.read(now=START)}
    assert len(kept) == refused.MAX_REFUSED and 1 not in kept
    refused.place().write_text("{")
    assert refused.read(now=START) == ()

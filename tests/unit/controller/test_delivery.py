"""When a message is tried again, and when it is not."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest

from netwatch.controller import webhook
from netwatch.controller.delivery import SCHEDULE_S, Dispatcher, after_try
from netwatch.controller.records import Delivery, Receiver
from netwatch.controller.store import Event, Store
from netwatch.model.times import SECOND
from tests.unit.controller.samples import START, Clock

FRESH = Delivery("msg_1", "rc_1", "al_1", "alert.opened", "waiting", 0, START, START)


def answer(status: int | None, retry_after_s: float | None = None) -> webhook.Answer:
    return webhook.Answer(status, retry_after_s, problem=None if status else "refused")


@pytest.mark.parametrize(
    ("given", "state", "pause_s"),
    [
        pytest.param(answer(200), "delivered", None, id="200"),
        pytest.param(answer(299), "delivered", None, id="299"),
        pytest.param(answer(301), "waiting", 5, id="a redirect is a failure"),
        pytest.param(answer(400), "waiting", 5, id="400"),
        pytest.param(answer(410), "failed", None, id="410 is final"),
        pytest.param(answer(500), "waiting", 5, id="500"),
        pytest.param(answer(None), "waiting", 5, id="no answer"),
        pytest.param(answer(429, 60), "waiting", 60, id="429 with Retry-After"),
        pytest.param(answer(503, 60), "waiting", 60, id="503 with Retry-After"),
        pytest.param(answer(503, 1), "waiting", 5, id="Retry-After never hurries us"),
        pytest.param(answer(500, 60), "waiting", 5, id="Retry-After of 500 means nothing"),
        pytest.param(answer(429, 10**9), "waiting", 86_400, id="Retry-After is bounded"),
    ],
)
def test_one_try(given: webhook.Answer, state: str, pause_s: int | None) -> None:
    outcome = after_try(FRESH, given, START, random=0.0)
    assert (outcome.id, outcome.state, outcome.attempts) == ("msg_1", state, 1)
    if pause_s is None:
        assert outcome.ended == START
    else:
        assert outcome.due == START + pause_s * SECOND and outcome.ended is None
    assert (outcome.problem is None) == (state == "delivered")


def test_a_receiver_that_stays_down_is_tried_ten_times_over_three_days() -> None:
    delivery, tries = FRESH, [START]
    while delivery.state == "waiting":
        delivery = after_try(delivery, answer(500), tries[-1], random=0.0)
        tries.append(delivery.due)
    pauses = [(b - a) // SECOND for a, b in pairwise(tries[:-1])]
    assert pauses == list(SCHEDULE_S) == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert (delivery.state, delivery.attempts) == ("failed", 10)


def test_jitter_only_ever_adds_a_tenth() -> None:
    dues = [after_try(FRESH, answer(500), START, random=r).due - START for r in (0.0, 0.5, 0.999)]
    assert dues == sorted(set(dues))
    assert dues[0] == 5 * SECOND and dues[-1] < 5.5 * SECOND


def test_a_slow_receiver_delays_no_other(tmp_path: Path) -> None:
    """While one receiver does not answer, the other one's messages all arrive."""
    store, clock = Store(tmp_path / "state.db"), Clock()
    for name in ("slow", "quick"):
        store.save_receiver(
            Receiver(name, f"http://{name}/", True, START, secret=webhook.make_secret())
        )
    go_on, arrived = threading.Event(), []

    def send(message: webhook.Message) -> webhook.Answer:
        if "slow" in message.url:
            go_on.wait(60)
        else:
            arrived.append(message.headers["webhook-id"])
        return webhook.Answer(200)

    events = [Event(f"al_{n}", "alert.opened", "{}", START) for n in range(30)]
    assert store.save_alerts([], events) == 0
    dispatcher = Dispatcher(store, send=send, clock=clock, random=lambda: 0.0)
    while "waiting" in {d.state for d in store.deliveries("quick")}:
        dispatcher.start_due(START)
    assert len(arrived) == len(set(arrived)) == 30
    assert {d.state for d in store.deliveries("slow")} == {"waiting"}
    go_on.set()
    assert dispatcher.stop(60)
    store.close()


def test_a_queue_without_end_is_cut_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netwatch.controller.store.WAITING_LIMIT", 3)
    store = Store(tmp_path / "state.db")
    store.save_receiver(Receiver("r", "http://r/", True, START, secret="x"))
    events = [Event(f"al_{n}", "alert.opened", "{}", START) for n in range(5)]
    assert store.save_alerts([], events) == 2
    assert len(store.deliveries()) == 3
    store.close()

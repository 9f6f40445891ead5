"""Alerts of a controller: opened once, told once, resolved when the cause is gone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from netwatch.controller import webhook
from netwatch.controller.service import Controller
from netwatch.model.errors import InvalidDocument, NetwatchError
from netwatch.model.times import SECOND
from netwatch.model.workload import DocumentedPort
from netwatch.settings import Settings
from tests.unit.controller.samples import DB, START, Clock, Post, controller, flow, report


def look(fleet: Controller, clock: Clock, *, after_s: float = 0) -> None:
    clock.now += int(after_s * SECOND)
    fleet.tick(clock.now)
    assert fleet.settle(10)


def told(post: Post) -> list[tuple[str, str]]:
    bodies = [json.loads(message.body) for message in post.sent]
    return [(body["type"], body["data"]["subject"]) for body in bodies]


def test_an_alert_opens_once_and_is_told_once(fleet: Controller, clock: Clock, post: Post) -> None:
    fleet.add_receiver("http://198.51.100.9/hook", allow_private=True)
    fleet.ingest(report("b"))
    for n in range(1, 4):
        fleet.ingest(report("a", flow(port=9999, sport=n), sequence=n))
        look(fleet, clock, after_s=3)
    assert told(post) == [("alert.opened", "b/shop/db:tcp/9999")]
    (alert,) = fleet.alerts()
    assert alert.finding.evidence[0]["edge"] == "a/shop/web>b/shop/db:tcp/9999"
    assert alert.finding.evidence[0]["documented_ports"] == ["tcp/5432 (lab)"]


def test_a_cause_that_is_gone_resolves_and_one_that_returns_is_a_new_alert(
    fleet: Controller, clock: Clock, post: Post
) -> None:
    """Documenting the port ends the alert, without waiting for the edge to be forgotten."""
    fleet.add_receiver("http://198.51.100.9/hook", allow_private=True)
    fleet.ingest(report("a", flow(port=9999)))
    fleet.ingest(report("b"))
    look(fleet, clock)
    documented = replace(DB, ports=(*DB.ports, DocumentedPort(9999, "tcp", "lab")))
    fleet.ingest(report("b", sequence=2, workloads=(documented,)))
    look(fleet, clock, after_s=3)
    assert [a.state for a in fleet.alerts()] == ["resolved"]
    fleet.ingest(report("b", sequence=3))
    look(fleet, clock, after_s=3)
    assert [kind for kind, _ in told(post)] == [
        "alert.opened",
        "alert.resolved",
        "alert.opened",
    ]
    assert sorted(a.state for a in fleet.alerts()) == ["open", "resolved"]


def test_a_silent_agent_is_told_within_90_seconds_and_resolved_when_it_returns(
    fleet: Controller, clock: Clock
) -> None:
    fleet.ingest(report("a"))
    fleet.ingest(report("b"))
    silent_at = None
    for second in range(9, 90, 9):
        clock.now = START + second * SECOND
        fleet.ingest(report("b", sequence=second + 1, now=clock.now))
        fleet.tick(clock.now)
        if silent_at is None and fleet.alerts():
            silent_at = second
    assert silent_at is not None and 60 < silent_at < 90
    (alert,) = fleet.alerts(state="open")
    assert (alert.finding.detector, alert.finding.host) == ("silent-agent", "a")
    assert [h.silent for h in fleet.hosts()] == [True, False]
    fleet.ingest(report("a", sequence=2, now=clock.now))
    look(fleet, clock, after_s=3)
    assert fleet.alerts(state="open") == ()


def test_time_in_which_the_controller_was_down_makes_nobody_silent(
    tmp_path: Path, clock: Clock
) -> None:
    first = controller(tmp_path, clock)
    first.ingest(report("a"))
    first.close()
    clock.now += 3_600 * SECOND
    second = controller(tmp_path, clock)
    second.tick(clock.now)
    assert second.alerts() == ()
    second.close()


def test_acknowledged_stays_until_the_cause_is_gone(fleet: Controller, clock: Clock) -> None:
    fleet.ingest(report("a", flow(port=9999)))
    fleet.ingest(report("b"))
    look(fleet, clock)
    (alert,) = fleet.alerts()
    assert fleet.acknowledge(alert.id, by="ada").state == "acknowledged"
    look(fleet, clock, after_s=3)
    assert [a.state for a in fleet.alerts()] == ["acknowledged"]
    assert fleet.resolve(alert.id, by="ada").state == "resolved"
    for change in (fleet.acknowledge, fleet.resolve):
        with pytest.raises(NetwatchError) as caught:
            change(alert.id, by="ada")
        assert caught.value.code == "not-found"


def test_a_receiver_that_is_down_gets_the_alert_later_with_the_same_id(
    tmp_path: Path, clock: Clock
) -> None:
    """Also when the controller restarts in between."""
    post = Post(webhook.Answer(None, problem="refused"), webhook.Answer(500))
    first = controller(tmp_path, clock, send=post)
    first.add_receiver("http://198.51.100.9/hook", allow_private=True)
    first.ingest(report("a", flow(port=9999)))
    first.ingest(report("b"))
    look(first, clock)
    look(first, clock, after_s=3)
    assert len(post.sent) == 1, "the second try is due after 5 s, not before"
    look(first, clock, after_s=4)
    first.close()
    second = controller(tmp_path, clock, send=post)
    look(second, clock, after_s=400)
    look(second, clock, after_s=4_000)
    opened = [m for m in post.sent if json.loads(m.body)["type"] == "alert.opened"]
    same = [m for m in opened if b"undocumented-port" in m.body]
    assert len(same) == 3
    assert len({m.headers["webhook-id"] for m in same}) == 1
    assert [d.state for d in second.deliveries() if d.id == same[0].headers["webhook-id"]] == [
        "delivered"
    ]
    second.close()


def test_410_ends_it(fleet: Controller, clock: Clock, post: Post) -> None:
    post.answers = [webhook.Answer(410)]
    fleet.add_receiver("http://198.51.100.9/hook", allow_private=True)
    fleet.ingest(report("a", flow(port=9999), flow(port=9998)))
    fleet.ingest(report("b"))
    look(fleet, clock)
    look(fleet, clock, after_s=86_400)
    assert len(post.sent) == 1
    (receiver,) = fleet.receivers()
    assert receiver.disabled and receiver.waiting == 0 and receiver.failed == 2


def test_the_secret_of_a_receiver_is_told_once(tmp_path: Path, fleet: Controller) -> None:
    made = fleet.add_receiver("http://198.51.100.9/hook", allow_private=True)
    assert made.secret.startswith("whsec_") and made.secret not in repr(made)
    assert [r.secret for r in fleet.receivers()] == [""]
    assert fleet.remove_receiver(made.id) and not fleet.remove_receiver(made.id)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://[::1]:8080/x", "ftp://192.0.2.1/"])
def test_a_receiver_that_is_not_public_is_refused_when_it_is_added(
    quiet: Controller, url: str
) -> None:
    with pytest.raises(InvalidDocument):
        quiet.add_receiver(url)
    assert quiet.receivers() == ()


def test_the_settings_make_one_receiver_over_any_number_of_starts(
    tmp_path: Path, clock: Clock
) -> None:
    settings = Settings(webhook_url="http://127.0.0.1:9/x", webhook_allow_private=True)
    for _ in range(2):
        opened = controller(tmp_path, clock, settings=settings)
        assert [r.url for r in opened.receivers()] == ["http://127.0.0.1:9/x"]
        opened.close()
    refused = replace(settings, webhook_allow_private=False)
    with pytest.raises(InvalidDocument, match="webhook_url"):
        controller(tmp_path, clock, settings=refused)
    controller(tmp_path, clock).close()


def test_the_body_is_json_that_names_the_alert(
    fleet: Controller, clock: Clock, post: Post
) -> None:
    """design.md section 9: `{"type", "timestamp", "data": {alert}}`."""
    fleet.add_receiver("http://198.51.100.9/hook", allow_private=True)
    fleet.ingest(report("b"))
    fleet.ingest(report("a", flow(port=9999)))
    look(fleet, clock)
    body = json.loads(post.sent[0].body)
    assert set(body) == {"type", "timestamp", "data"}
    assert {"id", "detector", "severity", "evidence", "state", "opened"} <= set(body["data"])


@pytest.mark.parametrize("jump_s", [pytest.param(3_600, id="on"), pytest.param(-3_600, id="back")])
def test_a_clock_that_is_set_makes_nobody_silent_and_stops_no_detector(
    fleet: Controller, clock: Clock, post: Post, jump_s: int
) -> None:
    """By an hour: no false alert in between, and who does end later is missed in time (F8)."""
    fleet.add_receiver("http://198.51.100.9/hook", allow_private=True)
    for n in range(1, 4):
        clock.now += SECOND
        fleet.ingest(report("a", sequence=n, now=clock.now))
        look(fleet, clock)
    clock.now += jump_s * SECOND
    look(fleet, clock)
    for _ in range(3):
        look(fleet, clock, after_s=20)
        assert told(post) == []
    look(fleet, clock, after_s=20)
    assert told(post) == [("alert.opened", "host:a")]

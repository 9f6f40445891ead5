"""The controller: what was acknowledged is counted once, and an alert goes out once."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netwatch.controller import webhook
from netwatch.controller.records import FlowQuery
from netwatch.controller.service import Controller
from netwatch.model.errors import InvalidDocument, NetwatchError, UsageError
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.model.workload import DocumentedPort, PublishedPort
from netwatch.settings import Settings
from netwatch.wire import BadReport
from tests.unit.controller.samples import (
    DB,
    PLAIN,
    START,
    TLS,
    WEB,
    Clock,
    Post,
    controller,
    flow,
    keys,
    report,
)

WEB_TO_DB = "a/shop/web>b/shop/db:tcp/5432"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def fleet(tmp_path: Path, clock: Clock, post: Post) -> Iterator[Controller]:
    opened = controller(tmp_path / "state", clock, send=post)
    yield opened
    opened.close()


# what goes in is counted once


def test_a_repeated_report_changes_nothing(fleet: Controller) -> None:
    """A retry after a lost acknowledgement is harmless: flows and losses stay as they were."""
    sent = report("a", flow(), losses=(("ring full", 7),))
    assert fleet.ingest(sent) is True
    edges, losses = fleet.edges(), fleet.losses()
    assert fleet.ingest(sent) is False
    assert fleet.edges() == edges
    assert fleet.losses() == losses == {"ring full": 7}


def test_a_late_report_of_a_spool_is_counted_and_leaves_newer_state_alone(
    fleet: Controller,
) -> None:
    newer = report("a", flow(), sequence=9, workloads=(WEB, replace(WEB, name="new")))
    older = report("a", flow(sport=1), sequence=3, now=START - 60 * SECOND)
    assert fleet.ingest(newer) and fleet.ingest(older)
    assert fleet.edges()[0].connections == 2
    assert [w.name for w in fleet.workloads()] == ["new", "web"]


def test_a_new_boot_starts_its_numbers_again(fleet: Controller) -> None:
    assert fleet.ingest(report("a", flow()))
    assert fleet.ingest(report("a", flow(sport=2), boot="another"))
    assert fleet.edges()[0].connections == 2


@pytest.mark.parametrize("first", ["a", "b"])
def test_the_two_reports_of_one_conversation_are_one_edge_with_the_clients_figures(
    fleet: Controller, first: str
) -> None:
    """Whoever reports first, and although neither host can name the other's workload."""
    reports = {
        "a": report("a", flow(client_bytes=1_000)),
        "b": report("b", flow("server", client_bytes=900)),
    }
    fleet.ingest(reports.pop(first))
    fleet.ingest(reports.popitem()[1])
    (edge,) = fleet.edges()
    assert edge.id == WEB_TO_DB
    assert (edge.connections, edge.bytes, edge.documented) == (1, 1_400, "lab")


def test_the_servers_figures_count_where_the_client_says_nothing(fleet: Controller) -> None:
    fleet.ingest(report("a"))
    fleet.ingest(report("b", flow("server")))
    assert [(e.id, e.bytes) for e in fleet.edges()] == [(WEB_TO_DB, 1_000)]


def test_a_published_port_leads_to_the_workload_behind_it(fleet: Controller) -> None:
    """Underlay NAT: a's packets go to the door of b, and b sees the address of host a."""
    door = replace(DB, published=(PublishedPort("0.0.0.0", 15_432, 5_432, "tcp"),))
    at_a = flow(server=Endpoint("203.0.113.98", 15_432))
    at_b = flow("server", client=Endpoint("203.0.113.97", 50_001))
    fleet.ingest(report("b", at_b, workloads=(door,)))
    fleet.ingest(report("a", at_a))
    fleet.ingest(report("a", replace(at_a, last_seen=START + 1), sequence=2))
    named = [edge for edge in fleet.edges() if edge.source.kind == "workload"]
    assert [(e.id, e.original_port) for e in named] == [(WEB_TO_DB, 15_432)]
    assert keys(fleet.edges()) == [WEB_TO_DB]


def _workload_of_another_host(sent: Report) -> Report:
    return replace(sent, workloads=(DB,))


def _host_with_a_path(sent: Report) -> Report:
    return replace(sent, host="../a", workloads=())


def _negative(sent: Report) -> Report:
    return replace(sent, flows=(flow(client_bytes=-1),))


def _beyond_64_bits(sent: Report) -> Report:
    return replace(sent, flows=(flow(client_bytes=2**70),))


def _impossible_port(sent: Report) -> Report:
    return replace(sent, flows=(flow(port=70_000),))


def _negative_loss(sent: Report) -> Report:
    return replace(sent, losses=(("ring full", -5),))


@pytest.mark.parametrize(
    "spoil",
    [
        _workload_of_another_host,
        _host_with_a_path,
        _negative,
        _beyond_64_bits,
        _impossible_port,
        _negative_loss,
    ],
)
def test_an_impossible_report_is_refused_whole(
    fleet: Controller, spoil: Callable[[Report], Report]
) -> None:
    with pytest.raises(BadReport):
        fleet.ingest(spoil(report("a", flow())))
    assert fleet.edges() == ()
    assert fleet.ingest(report("a", flow())) is True


def test_hostile_text_is_only_text(fleet: Controller) -> None:
    """Names reach SQL as values: nothing is executed, nothing is lost."""
    evil = replace(WEB, name="x'); drop table flows; --")
    named = flow(client=Endpoint("198.18.0.2", 4, evil.identity))
    fleet.ingest(report("a", named, workloads=(evil,), losses=(("'; --", 1),)))
    (edge,) = fleet.edges()
    assert edge.source.name == evil.name
    found, _ = fleet.flows(FlowQuery(edge=edge.id))
    assert [f.client.workload for f in found] == [evil.identity]


# what comes out


def test_a_conversation_that_goes_on_is_one_flow(fleet: Controller) -> None:
    fleet.ingest(report("a", flow()))
    later = flow(last_seen=START + SECOND, connections=0)
    fleet.ingest(report("a", later, sequence=2, now=START + SECOND))
    (found,), cursor = fleet.flows(FlowQuery())
    assert (found.client_bytes, found.connections, found.last_seen) == (1_200, 1, START + SECOND)
    assert found.encryption == TLS
    assert cursor is None


def test_pages_hold_every_flow_once_newest_first(fleet: Controller) -> None:
    flows = [flow(sport=1_000 + n, last_seen=START + n // 3) for n in range(25)]
    fleet.ingest(report("a", *flows))
    seen: list[Flow] = []
    cursor = None
    for _ in range(10):
        page, cursor = fleet.flows(FlowQuery(limit=4, cursor=cursor))
        seen += page
        if cursor is None:
            break
    assert len(seen) == 25
    assert {f.client.port for f in seen} == {1_000 + n for n in range(25)}
    assert [f.last_seen for f in seen] == sorted((f.last_seen for f in seen), reverse=True)


@pytest.mark.parametrize(
    ("query", "ports"),
    [
        pytest.param(FlowQuery(), {5432, 9999, 53}, id="everything"),
        pytest.param(FlowQuery(port=53), {53}, id="port"),
        pytest.param(FlowQuery(protocol="udp"), {53}, id="protocol"),
        pytest.param(FlowQuery(encryption="plaintext"), {9999}, id="encryption"),
        pytest.param(FlowQuery(verdict="deny"), {53}, id="verdict"),
        pytest.param(FlowQuery(edge=WEB_TO_DB), {5432}, id="edge"),
        pytest.param(FlowQuery(workload="b/shop/db"), {5432, 9999, 53}, id="either end"),
        pytest.param(FlowQuery(workload="b/shop/nobody"), set(), id="unknown workload"),
        pytest.param(FlowQuery(since=START + 1), set(), id="since"),
        pytest.param(FlowQuery(until=START), set(), id="until, exclusive"),
        pytest.param(FlowQuery(since=START, until=START + 1), {5432, 9999, 53}, id="instant"),
        pytest.param(FlowQuery(reporter="server"), set(), id="reporter"),
    ],
)
def test_a_search_finds_what_it_names(
    fleet: Controller, query: FlowQuery, ports: set[int]
) -> None:
    fleet.ingest(report("b"))
    fleet.ingest(
        report(
            "a",
            flow(verdict="allow"),
            flow(port=9999, sport=2, encryption=PLAIN),
            flow(port=53, sport=3, protocol="udp", verdict="deny"),
        )
    )
    found, _ = fleet.flows(query)
    assert {f.server.port for f in found} == ports


@pytest.mark.parametrize(
    "query",
    [FlowQuery(edge="nonsense"), FlowQuery(edge="a>b:tcp/x"), FlowQuery(cursor="1; drop table")],
)
def test_a_search_that_can_not_be_read_is_a_usage_error(
    fleet: Controller, query: FlowQuery
) -> None:
    with pytest.raises(UsageError):
        fleet.flows(query)


def test_waiting_ends_at_once_with_a_change_and_is_bounded(fleet: Controller) -> None:
    before = fleet.wait_for_change(-1, 0).counter
    assert fleet.wait_for_change(before, 0.01).timed_out
    fleet.ingest(report("a"))
    change = fleet.wait_for_change(before, 60)
    assert change.counter > before and not change.timed_out


# what stays


def test_everything_is_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    first = controller(tmp_path, clock)
    first.ingest(report("a", flow(), losses=(("ring full", 2),)))
    first.ingest(report("b"))
    token, agent = first.person_token(), first.enrol("c")
    first.set_policies("kind: Segment", author="ada")
    first.tick(START)
    shown = (first.edges(), first.workloads(), first.losses(), first.alerts(), first.policies())
    first.close()
    second = controller(tmp_path, clock)
    assert shown == (
        second.edges(),
        second.workloads(),
        second.losses(),
        second.alerts(),
        second.policies(),
    )
    assert [h.host for h in second.hosts()] == ["a", "b", "c"]
    assert second.ingest(report("a", flow())) is False
    assert second.accepts(token) and second.agent_of(agent) == "c"
    second.close()


def test_a_folder_in_use_is_refused_with_one_sentence(
    tmp_path: Path, clock: Clock, fleet: Controller
) -> None:
    with pytest.raises(NetwatchError, match="another netwatch controller") as caught:
        controller(tmp_path / "state", clock)
    assert caught.value.hint


def test_the_token_is_readable_by_its_owner_only(tmp_path: Path, fleet: Controller) -> None:
    file = tmp_path / "state" / "token"
    assert file.read_text().strip() == fleet.person_token()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not fleet.accepts("") and not fleet.accepts("café")


def test_a_new_agent_token_replaces_the_old_and_is_kept_as_a_hash(
    tmp_path: Path, fleet: Controller
) -> None:
    old, new = fleet.enrol("a"), fleet.enrol("a")
    assert (fleet.agent_of(old), fleet.agent_of(new)) == (None, "a")
    for file in (tmp_path / "state").iterdir():
        assert new.encode() not in file.read_bytes()
    with pytest.raises(UsageError):
        fleet.enrol("a; reboot")


# alerts


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
    for n in range(1, 6):
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
    for second in range(3, 90, 3):
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
    fleet: Controller, url: str
) -> None:
    with pytest.raises(InvalidDocument):
        fleet.add_receiver(url)
    assert fleet.receivers() == ()


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

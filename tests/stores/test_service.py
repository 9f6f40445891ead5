"""The controller: what was acknowledged is counted once, and an alert goes out once."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netwatch.controller.policies import Signed
from netwatch.controller.records import FlowQuery
from netwatch.controller.service import Controller
from netwatch.model.errors import NetwatchError, UsageError
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.host import host_as_json
from netwatch.model.policy_version import Document
from netwatch.model.report import Enforcement, Report
from netwatch.model.times import SECOND
from netwatch.model.workload import PublishedPort
from netwatch.wire import BadReport
from tests.unit.controller.samples import (
    DB,
    PLAIN,
    START,
    TLS,
    WEB,
    Clock,
    controller,
    flow,
    keys,
    report,
)

POLICY = """apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {governs: app=db, rules: [{from: app=web, ports: 5432}]}
"""
WEB_TO_DB = "a/shop/web>b/shop/db:tcp/5432"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller with three flows, for tests that only look."""
    opened = controller(tmp_path_factory.mktemp("searched"), Clock())
    opened.ingest(report("b"))
    opened.ingest(
        report(
            "a",
            flow(verdict="allow"),
            flow(port=9999, sport=2, encryption=PLAIN),
            flow(port=53, sport=3, protocol="udp", verdict="deny"),
        )
    )
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
    quiet: Controller, spoil: Callable[[Report], Report]
) -> None:
    """Nothing of it is counted, its number included: a good report of that number is new."""
    boot = spoil.__name__.strip("_")
    with pytest.raises(BadReport):
        quiet.ingest(spoil(report("a", flow(), boot=boot)))
    assert quiet.edges() == ()
    assert quiet.ingest(report("a", boot=boot)) is True


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
    searched: Controller, query: FlowQuery, ports: set[int]
) -> None:
    found, _ = searched.flows(query)
    assert {f.server.port for f in found} == ports


@pytest.mark.parametrize(
    "query",
    [FlowQuery(edge="nonsense"), FlowQuery(edge="a>b:tcp/x"), FlowQuery(cursor="1; drop table")],
)
def test_a_search_that_can_not_be_read_is_a_usage_error(
    searched: Controller, query: FlowQuery
) -> None:
    with pytest.raises(UsageError):
        searched.flows(query)


def test_waiting_ends_at_once_with_a_change_and_is_bounded(fleet: Controller) -> None:
    before = fleet.wait_for_change(-1, 0).counter
    assert fleet.wait_for_change(before, 0.01).timed_out
    fleet.ingest(report("a"))
    change = fleet.wait_for_change(before, 60)
    assert change.counter > before and not change.timed_out


def test_a_host_says_what_is_in_force_and_whether_it_is_what_is_wanted(
    fleet: Controller, clock: Clock
) -> None:
    """By the hash of the documents; without any wish nothing differs, and none is none at all."""
    held = Enforcement(policies="ab" * 32, mode="enforce")
    fleet.ingest(replace(report("a"), enforcement=held))
    fleet.ingest(report("b"))

    def differ() -> list[bool]:
        return [host_as_json(host)["differs"] for host in fleet.hosts()]

    assert differ() == [False, False]
    version = fleet.policies.apply([Document("db.yaml", POLICY)], Signed("ada"), confirm_s=0)
    assert differ() == [True, True]
    assert {host.wanted for host in fleet.hosts()} == {version.sha256}
    fleet.policies.restore("0", Signed("ada"))
    assert differ() == [True, False]


def test_time_undoes_a_version_though_nobody_asks(fleet: Controller, clock: Clock) -> None:
    """The tick does it, and tells whoever waits for a change."""
    fleet.policies.apply([Document("db.yaml", POLICY)], Signed("ada"), confirm_s=5)
    before = fleet.wait_for_change(0, 0).counter
    clock.now += 5 * SECOND
    fleet.tick(clock.now)
    assert fleet.wait_for_change(before, 0).counter > before
    assert [v.state for v in fleet.policies.versions()] == ["withdrawn"]


# what stays


def test_everything_is_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    first = controller(tmp_path, clock)
    first.ingest(report("a", flow(), losses=(("ring full", 2),)))
    first.ingest(report("b"))
    token, agent = first.person_token(), first.enrol("c")
    first.policies.apply([Document("db.yaml", POLICY)], Signed("ada"))
    first.tick(START)
    shown = (first.edges(), first.workloads(), first.losses(), first.alerts())
    versions = first.policies.versions()
    first.close()
    second = controller(tmp_path, clock)
    assert shown == (
        second.edges(),
        second.workloads(),
        second.losses(),
        second.alerts(),
    )
    assert second.policies.versions() == versions and len(versions) == 1
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

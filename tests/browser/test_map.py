"""The map as a person meets it: complete, live, the same as the API, and deaf to hostile names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from netwatch.model.errors import NetwatchError
from netwatch.model.workload import Label
from tests.browser.conftest import Watched
from tests.fakes import FakeController, alert, edge, flows_of, peer, workload

pytestmark = pytest.mark.browser

HOSTILE = Path(__file__).parents[2] / "../shared/data/hostile_inputs.json"
CY = "document.getElementById('map')._cyreg.cy"
DB = "b/shop/worker>b/shop/db:tcp/5432"


def asked(page: Page, path: str) -> dict[str, Any]:
    """An answer of the API, fetched with the page's own session."""
    return dict(page.evaluate(f"fetch('/api/v1/{path}').then((answer) => answer.json())"))


def drawn(page: Page, selector: str) -> set[str]:
    """Ids of what cytoscape holds (the container knows its instance)."""
    found = page.evaluate(
        f"(selector) => {CY}.elements(selector).map((each) => each.id())",
        selector,
    )
    return set(found)


def rows(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all(
        "#edges-body tr", "(rows) => rows.map((row) => row.dataset.edge)"
    )
    return found


def blameless(watched: Watched) -> None:
    """No script error, dialog or policy violation, and no request off this machine."""
    violations = watched.page.evaluate("window.__violations")
    pwned = watched.page.evaluate("typeof window.__pwned")
    assert (watched.mischief, watched.left, violations, pwned) == ([], [], [], "undefined")


def test_the_map_and_its_table_hold_exactly_the_edges_of_the_api(
    visit: Callable[..., Watched],
) -> None:
    watched = visit()
    page = watched.page
    edges = asked(page, "edges")["edges"]
    assert drawn(page, "edge") == {each["id"] for each in edges}
    assert sorted(rows(page)) == sorted(each["id"] for each in edges)
    ends = {end["id"] for each in edges for end in (each["source"], each["destination"])}
    assert drawn(page, "node.peer") == ends | {
        w["id"] for w in asked(page, "workloads")["workloads"]
    }
    expect(page.locator("#live")).to_have_attribute("data-live", "true")
    blameless(watched)


def test_a_click_on_an_edge_of_the_map_opens_its_flows(visit: Callable[..., Watched]) -> None:
    watched = visit()
    page = watched.page
    spot = page.evaluate(
        """(id) => {
            const map = document.getElementById('map');
            const at = map._cyreg.cy.getElementById(id).renderedMidpoint();
            const frame = map.getBoundingClientRect();
            return [frame.x + at.x, frame.y + at.y];
        }""",
        DB,
    )
    page.mouse.click(*spot)
    expect(page.locator("#panel-title")).to_have_text("shop/worker → shop/db")
    expect(page.locator("#panel-list .flows li")).to_have_count(3)
    expect(page.locator("#panel-list .flows li").first).to_contain_text("postgresql")
    assert "edge=" in page.url
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    blameless(watched)


def test_a_view_can_be_pasted_and_opens_the_same_after_the_login(
    visit: Callable[..., Watched],
) -> None:
    page = visit("/?workload=a%2Fshop%2Fapi&q=is%3Aplaintext").page
    expect(page.locator("#panel-title")).to_have_text("api")
    expect(page.locator("#search")).to_have_value("is:plaintext")
    expect(page.locator("#edges-count")).to_have_text("2 of 21")


def test_keys_alone_reach_an_edge_and_the_table_sorts(visit: Callable[..., Watched]) -> None:
    page = visit().page
    page.keyboard.press("/")
    page.keyboard.type("rogue")
    assert len(rows(page)) == 2
    page.locator("th[data-column=source] button").click()
    page.locator("th[data-column=destination] button").press("Enter")
    assert rows(page) == sorted(rows(page), key=lambda id: id.split(">")[1])
    expect(page.locator("th[data-column=destination]")).to_have_attribute("aria-sort", "ascending")
    page.locator("#edges-body tr").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#panel-title")).to_contain_text("pay-db")


def test_a_new_edge_and_a_new_alert_appear_without_a_reload_and_move_nothing(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    watched = visit()
    page = watched.page
    expect(page.locator("#live")).to_have_attribute("data-live", "true")
    where = f"{CY}.nodes('.peer').map((node) => [node.id(), node.position()])"
    before = dict(page.evaluate(where))
    late = workload("late")
    known = {each.name: each for each in controller.workloads()}
    new = edge(peer(late), peer(known["queue"]), 5671, "TLSv1.3")
    controller.change(
        workloads=(*controller.workloads(), late),
        edges=(*controller.edges(), new),
        alerts=(*controller.alerts(), alert("4", "new-peer", "low", "late appeared", minutes=0)),
    )
    expect(page.locator("#edges-count")).to_have_text("22")
    assert new.id in drawn(page, "edge")
    expect(page.locator("#announce")).to_contain_text("late appeared")
    after = dict(page.evaluate(where))
    assert {id: after[id] for id in before} == before
    blameless(watched)


def test_an_alert_is_acknowledged_from_the_page(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    page = visit().page
    page.locator("details[data-alert='1'] summary").click()
    page.locator("details[data-alert='1'] button", has_text="Acknowledge").click()
    expect(page.locator("#alerts-count")).to_have_text("2")
    assert {a.id: a.state for a in controller.alerts()}["1"] == "acknowledged"


def test_an_empty_controller_says_what_to_do_next(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    controller.change(workloads=(), edges=(), hosts=(), alerts=(), losses={})
    watched = visit()
    expect(watched.page.locator("#map-empty")).to_contain_text("Start a container")
    expect(watched.page.locator("#edges-empty")).to_contain_text("No conversation")
    expect(watched.page.locator("#alerts-list")).to_contain_text("No open alerts")
    blameless(watched)


def test_hostile_names_are_shown_as_text_and_run_nothing(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    """As name, namespace, label, image, server name, alert title, evidence and loss reason."""
    if not HOSTILE.exists():
        pytest.skip(f"needs the shared test data at {HOSTILE}")
    values = [str(case["value"])[:200] for case in json.loads(HOSTILE.read_text())]
    values = [value.encode("utf-8", "replace").decode() for value in values]
    named = tuple(
        dataclasses.replace(
            workload(value, namespace=value[:40] or "x"),
            labels=(Label(value, value, "own"),),
            image=value,
        )
        for value in dict.fromkeys(values)
    )
    target = workload("target", ports="80")
    edges = tuple(edge(peer(each), peer(target), 80, "plaintext") for each in named)
    flows = tuple(
        dataclasses.replace(
            flow,
            application=flow.client.workload,
            encryption=dataclasses.replace(flow.encryption, server_name=each.source.name),
        )
        for each in edges
        for flow in flows_of(each, 1)
    )
    alerts = tuple(
        alert(str(index), "x", "high", value, workloads=(value,), evidence=({value: value},))
        for index, value in enumerate(values)
    )
    controller.change(
        workloads=(*named, target),
        edges=edges,
        flows=flows,
        alerts=alerts,
        losses={v: 1 for v in values},
    )
    watched = visit()
    page = watched.page
    expect(page.locator("#edges-count")).to_have_text(str(len({e.id for e in edges})))
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for index in range(0, len(edges), 7):
        page.locator("#edges-body tr").nth(index).click()
        expect(page.locator("#panel-list .flows, #panel-list .empty").first).to_be_visible()
        page.locator("#panel-title button").first.click()
        expect(page.locator("#panel-kind")).to_have_text("Workload")
        page.keyboard.press("Escape")
    blameless(watched)


def test_a_controller_that_can_keep_nothing_says_so_until_it_is_over(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    """The banner comes and goes by itself; what there is stays on the map (F5)."""
    watched = visit()
    banner = watched.page.locator("#read-only")
    expect(banner).to_be_hidden()
    full = NetwatchError("the flow history can not be written", "make room", code="history-failed")
    controller.health.of("history")(full)
    expect(banner).to_contain_text("Read-only: nothing new can be kept")
    expect(banner).to_contain_text("make room")
    expect(watched.page.locator("#edges-count")).to_have_text("21")
    controller.health.of("history")(None)
    expect(banner).to_be_hidden()
    blameless(watched)

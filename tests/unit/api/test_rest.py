"""The REST routes: one shape, strict parameters, pages without gaps, an honest description."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from netwatch.api.answers import page
from netwatch.model.errors import NetwatchError, UsageError
from tests.fakes import FakeController, shop
from tests.unit.api.described import agree


def get(client: FlaskClient, path: str, **parameters: Any) -> dict[str, Any]:
    answer = client.get(f"/api/v1/{path}", query_string=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return dict(answer.json)


@pytest.mark.parametrize(
    ("name", "number"),
    [("workloads", 13), ("edges", 21), ("hosts", 3), ("alerts", 3), ("receivers", 0)],
)
def test_a_list_has_its_rows_the_next_page_and_the_losses(
    reader: FlaskClient, name: str, number: int
) -> None:
    answer = get(reader, name)
    gaps = ["gaps"] if name in ("edges", "flows") else []
    assert list(answer) == ["ok", name, "next", "losses", *gaps]
    assert (answer["ok"], len(answer[name]), answer["next"]) == (True, number, None)
    assert answer["losses"] == {"ring-full": 120}


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        ({"encryption": "plaintext"}, 5),
        ({"verdict": "deny"}, 1),
        ({"staged": "deny"}, 2),
        ({"port": 5432, "source": "a/shop/api"}, 1),
        ({"workload": "b/shop/db"}, 3),
        ({"namespace": "pay"}, 4),
        ({"host": "b", "protocol": "udp"}, 0),
        ({"since": "2026-11-22T02:40:00Z"}, 1),
        ({"until": "2026-01-01T00:00:00Z"}, 0),
    ],
)
def test_edges_are_narrowed_by_each_filter(
    reader: FlaskClient, filters: dict[str, Any], number: int
) -> None:
    found = get(reader, "edges", **filters)["edges"]
    if "since" in filters:
        number = sum(edge.last_seen >= 1_795_315_200 * 10**9 for edge in shop().edges())
    assert len(found) == number


def test_pages_join_to_the_whole_list(reader: FlaskClient) -> None:
    """Cursor after cursor gives each edge exactly once, in the order of the whole list."""
    ids: list[str] = []
    cursor: str | None = None
    for _ in range(10):
        more = {"cursor": cursor} if cursor else {}
        answer = get(reader, "edges", limit=4, **more)
        ids += [edge["id"] for edge in answer["edges"]]
        cursor = answer["next"]
        if cursor is None:
            break
    assert ids == [edge["id"] for edge in get(reader, "edges")["edges"]]


def test_a_row_that_vanishes_between_pages_shifts_nothing() -> None:
    rows = ["a", "b", "c", "d"]
    _, cursor = page(rows, key=str, limit=2, cursor=None)
    rest, end = page(["a", "c", "d"], key=str, limit=2, cursor=cursor)
    assert (rest, end) == (["c", "d"], None)


@pytest.mark.parametrize("cursor", ["%%%", "é", "AAAA=A", "_w"])
def test_a_cursor_that_is_not_ours_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError):
        page(["a"], key=str, limit=1, cursor=cursor)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("protocl=tcp", "did you mean protocol"),
        ("encryption=maybe", "known: encrypted, plaintext, unknown"),
        ("port=http", "a number from 0 to 65535"),
        ("port=65536", "a number from 0 to 65535"),
        ("limit=0", "a number from 1 to"),
        ("limit=-1", "a number from 1 to"),
        ("since=yesterday", "a time like"),
        ("since=2026-11-22T02:20:05", "a time like"),
        ("source=" + "x" * 1001, "longer than"),
    ],
)
def test_a_parameter_that_is_wrong_is_named_with_what_would_be_right(
    reader: FlaskClient, query: str, says: str
) -> None:
    answer = reader.get(f"/api/v1/edges?{query}")
    assert answer.status_code == 400
    assert answer.json is not None
    assert set(answer.json["error"]) == {"code", "message", "hint", "file", "line", "column"}
    assert says in f"{answer.json['error']['message']} {answer.json['error']['hint']}"


def test_the_flows_of_an_edge_are_those_of_its_key(reader: FlaskClient) -> None:
    edge = "a/shop/api>b/shop/db:tcp/5432"
    found = get(reader, "flows", edge=edge, limit=2)
    assert [flow["server"]["workload"] for flow in found["flows"]] == ["b/shop/db"] * 2
    rest = get(reader, "flows", edge=edge, limit=2, cursor=found["next"])
    assert (len(rest["flows"]), rest["next"]) == (1, None)


def test_a_receivers_secret_is_never_given_back(program: FlaskClient) -> None:
    """Told once if we made it, never if it was given, and in no list."""
    given = program.post(
        "/api/v1/receivers", json={"url": "https://example.org/", "secret": "whsec_c2VjcmV0"}
    )
    made = program.post("/api/v1/receivers", json={"url": "https://example.org/"})
    assert (given.status_code, made.status_code) == (201, 201)
    assert given.json is not None and made.json is not None
    assert given.json["secret"] is None and made.json["secret"].startswith("whsec_")
    listed = json.dumps(get(program, "receivers"))
    assert "secret" not in listed and "c2VjcmV0" not in listed + given.text


def test_a_receiver_is_removed_once(program: FlaskClient) -> None:
    added = program.post("/api/v1/receivers", json={"url": "https://example.org/"})
    assert added.json is not None
    path = f"/api/v1/receivers/{added.json['receiver']['id']}"
    assert program.delete(path).status_code == 200
    assert program.delete(path).status_code == 404
    assert get(program, "receivers")["receivers"] == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "url is missing"),
        ({"url": 7}, "must be text"),
        ({"url": "https://example.org/", "allow_private": "yes"}, "true or false"),
        ({"url": "https://example.org/", "x": 1}, "unknown member"),
        ([1], "not a JSON object"),
    ],
)
def test_a_body_that_is_wrong_changes_nothing(
    reader: FlaskClient, body: object, says: str
) -> None:
    answer = reader.post("/api/v1/receivers", json=body)
    assert answer.status_code == 400
    assert get(reader, "receivers")["receivers"] == []
    assert says in answer.text


def test_alerts_are_acknowledged_and_resolved_and_narrowed_by_state(program: FlaskClient) -> None:
    program.post("/api/v1/alerts/1/acknowledge")
    program.post("/api/v1/alerts/2/resolve")
    states = {a["id"]: a["state"] for a in get(program, "alerts")["alerts"]}
    assert states == {"1": "acknowledged", "2": "resolved", "3": "open"}
    assert [a["id"] for a in get(program, "alerts", state="open")["alerts"]] == ["3"]
    assert program.post("/api/v1/alerts/9/resolve").status_code == 404


def test_the_map_holds_the_same_edges_and_says_what_it_leaves_out(reader: FlaskClient) -> None:
    drawn = get(reader, "map")
    assert {e["id"] for e in drawn["edges"]} == {e["id"] for e in get(reader, "edges")["edges"]}
    assert (drawn["aggregated"], drawn["omitted"]) == (None, {"nodes": 0, "edges": 0})


def test_what_breaks_inside_is_not_told(
    app: Flask, controller: FakeController, program: FlaskClient
) -> None:
    controller.change(losses=None)
    answer = program.get("/api/v1/losses")
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["error"]["code"] == "internal"
    assert "None" not in answer.text and "Traceback" not in answer.text
    assert program.get("/readyz").status_code == 503


def test_read_only_is_said_with_every_answer_until_it_is_over(
    controller: FakeController, program: FlaskClient
) -> None:
    """What is there is answered on; whoever watches readiness hears why nothing new is kept."""
    wrote = controller.health.of("history")
    wrote(NetwatchError("the disk is full\r\nX: 1 é", "make room", code="history-failed"))
    answers = [program.get(f"/api/v1/{path}") for path in ("map", "edges", "hosts", "nothing")]
    ready = program.get("/readyz")

    assert {a.headers["Netwatch-Read-Only"] for a in answers} == {
        "the disk is full??X: 1 ?; make room"
    }
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]
    assert ready.status_code == 503
    assert ready.json is not None
    assert (ready.json["read_only"], ready.json["error"]["code"]) == (True, "history-failed")
    wrote(None)
    assert "Netwatch-Read-Only" not in program.get("/api/v1/map").headers
    assert program.get("/readyz").json == {"ok": True, "read_only": False}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("get", "nothing", 404), ("put", "edges", 405)]
)
def test_errors_of_http_have_the_same_shape(
    reader: FlaskClient, method: str, path: str, status: int
) -> None:
    answer = reader.open(f"/api/v1/{path}", method=method)
    assert answer.status_code == status
    assert answer.json is not None
    assert (answer.json["ok"], set(answer.json)) == (False, {"ok", "error"})


def _operations(app: Flask) -> set[tuple[str, str]]:
    return {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_the_openapi_document_describes_each_route_and_no_other(
    kept: Flask, reader: FlaskClient
) -> None:
    described = reader.get("/api/v1/openapi.json").json
    assert described is not None and described["openapi"] == "3.1.0"
    listed = {(path, method) for path, item in described["paths"].items() for method in item}
    assert listed == _operations(kept)


@pytest.mark.parametrize(
    "name", ["workloads", "edges", "flows", "hosts", "alerts", "map", "losses"]
)
def test_answers_have_exactly_the_members_that_the_document_names(
    reader: FlaskClient, name: str
) -> None:
    document = reader.get("/api/v1/openapi.json").json
    assert document is not None
    operation = document["paths"][f"/api/v1/{name}"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    agree(get(reader, name), schema, document["components"]["schemas"], name)


def test_metrics_count_alerts_edges_and_losses_and_name_no_workload(reader: FlaskClient) -> None:
    text = reader.get("/metrics").text
    assert 'netwatch_hosts{state="silent"} 1.0' in text
    assert 'netwatch_edges{encryption="plaintext"} 5.0' in text
    assert 'netwatch_losses_total{reason="ring-full"} 120.0' in text
    assert 'netwatch_alerts{severity="high",state="open"} 2.0' in text
    assert "pay-db" not in text and "rogue" not in text

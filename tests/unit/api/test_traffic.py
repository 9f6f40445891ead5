"""The map of any time, the difference of two times, search, export and replay, over the API."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from flask.testing import FlaskClient

from netwatch.api.app import create_app
from netwatch.controller.service import Controller
from netwatch.model.flow import Encryption
from netwatch.model.report import Capture
from netwatch.model.times import SECOND, rfc3339
from tests.fakes import FakeController
from tests.unit.controller.samples import PLAIN, START, WEB, Clock, controller, flow, report

DAY = 86_400 * SECOND
EARLY, LATE = rfc3339(START - DAY), rfc3339(START)
HOSTILE = Encryption("encrypted", "handshake", "tls", "TLSv1.2", server_name="=HYPERLINK(1)")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """Yesterday web called db encrypted, and once a port that is gone; today it is plaintext."""
    clock = Clock(START)
    fleet = controller(tmp_path_factory.mktemp("traffic"), clock)
    then = [
        flow(first_seen=START - DAY, last_seen=START - DAY),
        flow(port=6379, first_seen=START - DAY, last_seen=START - DAY, encryption=HOSTILE),
    ]
    now = [flow(encryption=PLAIN, sport=1), flow(port=80, sport=2)]
    fleet.ingest(report("b"))
    fleet.ingest(report("a", *then, *now))
    return fleet


@pytest.fixture(scope="module")
def asked(real: Controller) -> FlaskClient:
    client = create_app(real, clock=lambda: START).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {real.person_token()}"
    return client


def test_edges_and_map_are_those_of_the_time_asked_for(asked: FlaskClient) -> None:
    def ports(path: str) -> list[int]:
        return sorted(e["port"] for e in asked.get(f"/api/v1/{path}").json["edges"])

    assert ports(f"edges?at={EARLY}") == ports(f"map?at={EARLY}") == [5432, 6379]
    assert ports(f"edges?at={LATE}") == ports(f"map?at={LATE}") == [80, 5432]
    assert ports(f"map?at={LATE}&window=172800") == ports("map") == [80, 5432, 6379]
    assert ports(f"map?since={LATE}") == [80, 5432]
    refused = asked.get(f"/api/v1/map?at={LATE}&since={EARLY}")
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "usage")


def test_two_times_are_compared(asked: FlaskClient) -> None:
    answer = asked.get(f"/api/v1/edges/compare?before={EARLY}&after={LATE}").json
    assert [e["port"] for e in answer["new"]] == [80]
    assert [e["port"] for e in answer["gone"]] == [6379]
    assert [(c["after"]["port"], c["what"][0]) for c in answer["changed"]] == [
        (5432, "encryption")
    ]
    assert set(answer) == {"ok", "new", "gone", "changed", "omitted", "gaps", "losses"}
    assert asked.get(f"/api/v1/edges/compare?before={EARLY}").status_code == 400


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("where=server.port in 1", None, id="wrong"),
        pytest.param("where=server.port > 79 and server.port < 81", 1, id="any field"),
        pytest.param("namespace=shop", 4, id="namespace"),
        pytest.param("host=a&address=198.18.0.2", 4, id="host and address"),
        pytest.param("version=TLSv1.2", 1, id="version"),
        pytest.param("server_name==HYPERLINK(1)", 1, id="name"),
        pytest.param("state=refused", 0, id="state"),
        pytest.param('host=x" or host = "a', 0, id="what is no grammar in a value"),
    ],
)
def test_flows_are_found_by_any_field(asked: FlaskClient, query: str, found: int | None) -> None:
    answer = asked.get("/api/v1/flows", query_string=query)
    assert answer.status_code == (400 if found is None else 200)
    assert found is None or len(answer.json["flows"]) == found


def test_flows_are_exported_as_files(asked: FlaskClient, tmp_path: Path) -> None:
    """The same rows in all three; a cell that a spreadsheet would run is quoted in CSV."""
    found = {}
    for format, reader in (
        ("csv", "read_csv"), ("jsonl", "read_json_auto"), ("parquet", "read_parquet"),
    ):  # fmt: skip
        file = tmp_path / f"flows.{format}"
        with asked.get(f"/api/v1/flows/export?format={format}&protocol=tcp") as answer:
            file.write_bytes(answer.data)
        wanted = "client_workload, server_port::int, encryption_server_name"
        rows = duckdb.sql(f"select {wanted} from {reader}('{file}') order by 2").fetchall()
        found[format] = rows
    assert [port for _, port, _ in found["parquet"]] == [80, 5432, 5432, 6379]
    assert found["parquet"] == found["jsonl"]
    assert found["parquet"][3] == (WEB.identity, 6379, "=HYPERLINK(1)")
    assert found["csv"][3] == (WEB.identity, 6379, "'=HYPERLINK(1)")


def test_an_export_leaves_no_file(asked: FlaskClient, real: Controller) -> None:
    asked.get("/api/v1/flows/export").close()
    folder = real._folder
    assert [file.name for file in folder.iterdir() if "export" in file.name] == []


DRAFT = (
    "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {name: db, namespace: shop}\n"
    "spec: {governs: {}, rules: [{from: {}, ports: 80}]}\n"
)


def test_a_draft_is_replayed_and_a_wrong_one_refused(asked: FlaskClient) -> None:
    body = {"documents": [{"name": "d.yaml", "text": DRAFT}], "all": True}
    answer = asked.post("/api/v1/replay", json=body).json
    assert sum(answer["counts"].values()) == len(answer["calls"]) == 3
    assert {call["port"] for call in answer["calls"] if call["outcome"] == "escaped"} == {
        5432,
        6379,
    }
    part = asked.post(f"/api/v1/replay?since={LATE}", json=body).json
    assert len(part["calls"]) == 2 and part["id"] != answer["id"]
    wrong = asked.post("/api/v1/replay", json={"documents": [{"name": "x.yaml", "text": "a: ["}]})
    assert (wrong.status_code, wrong.json["error"]["file"]) == (400, "x.yaml")


def test_a_scrape_asks_for_no_history(program: FlaskClient, controller: FakeController) -> None:
    """/metrics takes what the detectors saw last."""

    def edges(**period: int | None) -> tuple[()]:
        raise AssertionError("history was read")

    controller.edges = edges  # type: ignore[method-assign,assignment]
    text = program.get("/metrics").text
    assert 'netwatch_edges{encryption="plaintext"}' in text


def test_what_was_not_observed_is_told_with_the_map_of_that_time(real: Controller) -> None:
    """Host a has a gap of ten minutes yesterday, and the map of that hour says so."""
    client = create_app(real, clock=lambda: START).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {real.person_token()}"
    minute = 60 * SECOND
    for boot, begin, end in (
        ("p", START - DAY, START - DAY + minute),
        ("q", START - DAY + 11 * minute, START),
    ):
        real.ingest(report("a", boot=boot, started=begin, now=end, capture=Capture("tcx")))
    late = rfc3339(START - DAY + 30 * minute)

    gap = {
        "host": "a",
        "since": rfc3339(START - DAY + minute),
        "until": rfc3339(START - DAY + 11 * minute),
    }
    for asked in (f"map?at={late}", f"edges?at={late}", f"flows?until={late}"):
        assert client.get(f"/api/v1/{asked}").json["gaps"] == [gap]
    for name in ("map", "edges", "flows"):
        assert client.get(f"/api/v1/{name}").json["gaps"] == []
    compared = client.get(f"/api/v1/edges/compare?before={late}&after={LATE}").json
    assert compared["gaps"] == [gap]
    observed = client.get(f"/api/v1/observed?since={EARLY}&until={LATE}&slots=24").json
    assert observed["first"] == EARLY
    assert [slot["observed"] for slot in observed["slots"]] == [0] + [1] * 23
    assert client.get("/api/v1/observed").status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "map?at=0001-01-01T00:00:00Z",
        "map?at=9999-12-31T23:59:59Z&window=31536000",
        "observed?since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z&slots=2000",
        "edges/compare?before=0001-01-01T00:00:00Z&after=9999-12-31T23:59:59Z",
    ],
)
def test_no_time_is_too_far_away(asked: FlaskClient, path: str) -> None:
    assert asked.get(f"/api/v1/{path}").status_code == 200

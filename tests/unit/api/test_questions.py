"""Why a call is allowed or denied by what is in force, and who did what: asked over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from netwatch.api.app import create_app
from netwatch.model.workload import Label
from tests.unit.api.described import agree
from tests.unit.controller.samples import DB, START, WEB, Clock, controller, report

POLICY = """apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {mode: MODE, governs: app=db, rules: [{from: app=web, ports: 5432, because: orders}]}
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A program at a controller of web on host a and db on host b. Only web may call db; that
    only web may call web is staged.
    """
    fleet = controller(tmp_path_factory.mktemp("questions"), Clock(START))
    for workload in (WEB, DB):
        label = Label("app", workload.name, "own")
        fleet.ingest(report(workload.host, workloads=(replace(workload, labels=(label,)),)))
    client = create_app(fleet, clock=lambda: START).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {fleet.person_token()}"
    staged = POLICY.replace("MODE", "stage").replace("name: db", "name: web")
    documents = [
        {"name": "db.yaml", "text": POLICY.replace("MODE", "enforce")},
        {"name": "web.yaml", "text": staged.replace("governs: app=db", "governs: app=web")},
    ]
    body = {"documents": documents, "author": "ada", "reason": "why not", "confirm": 0}
    assert client.post("/api/v1/policies", json=body).status_code == 201
    return client


def explained(asked: FlaskClient, **query: str) -> Any:
    return asked.get("/api/v1/explain", query_string=query).json


@pytest.mark.parametrize(
    ("source", "destination", "port", "mode", "verdict"),
    [
        pytest.param("shop/web", "shop/db", "5432", "enforce", "allow", id="by names"),
        pytest.param("a/shop/web", "198.18.1.2", "5432", "enforce", "allow", id="id, address"),
        pytest.param("shop/web", "shop/db", "22", "enforce", "deny", id="another port"),
        pytest.param("192.0.2.9", "shop/db", "5432", "enforce", "deny", id="from outside"),
        pytest.param("shop/db", "shop/web", "80", "enforce", "allow", id="staged is not in force"),
        pytest.param("shop/db", "shop/web", "80", "stage", "deny", id="staged, were it in force"),
    ],
)
def test_a_call_is_judged_by_what_is_in_force(
    asked: FlaskClient, source: str, destination: str, port: str, mode: str, verdict: str
) -> None:
    answer = explained(asked, source=source, destination=destination, port=port, mode=mode)
    assert (answer["ok"], answer["verdict"]) == (True, verdict)


def test_a_denial_names_its_document_and_what_would_allow_it(asked: FlaskClient) -> None:
    answer = explained(asked, source="shop/web", destination="shop/db", port="22")
    policy = answer["policy"]
    assert (policy["name"], policy["file"], policy["line"]) == ("db", "db.yaml", 1)
    assert answer["nearest"][0]["rule"]["because"] == "orders"
    assert "22" in answer["fix"]["document"]
    assert {step["outcome"] for step in answer["steps"]} >= {"misses", "denies"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param({"source": "shop/web"}, "source and destination", id="one end"),
        pytest.param({"source": "shop/web", "destination": "shop/db"}, "needs a port", id="port"),
        pytest.param(
            {"source": "shop/wep", "destination": "host", "port": "1"}, "shop/web", id="misspelt"
        ),
        pytest.param(
            {"source": "host", "destination": "host", "port": "1", "mode": "x"}, "stage", id="mode"
        ),
    ],
)
def test_what_can_not_be_judged_is_said(
    asked: FlaskClient, query: dict[str, str], words: str
) -> None:
    error = explained(asked, **query)["error"]
    assert words in f"{error['message']} {error['hint']}"


def test_the_audit_trail_says_who_decided(asked: FlaskClient) -> None:
    (entry,) = asked.get("/api/v1/audit").json["entries"]
    assert (entry["action"], entry["subject"]) == ("policy-apply", "version 1")
    assert (entry["details"]["author"], entry["details"]["reason"]) == ("ada", "why not")


ASKS = [
    "audit",
    "explain?source=shop/web&destination=shop/db&port=22",
    "explain?source=shop/web&destination=shop/db&port=5432",
]


@pytest.mark.parametrize("asks", ASKS)
def test_neither_is_for_strangers(asked: FlaskClient, asks: str) -> None:
    assert asked.get(f"/api/v1/{asks}", headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize("asks", ASKS)
def test_answers_are_as_the_document_says(asked: FlaskClient, asks: str) -> None:
    document = asked.get("/api/v1/openapi.json").json
    operation = document["paths"][f"/api/v1/{asks.partition('?')[0]}"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    agree(asked.get(f"/api/v1/{asks}").json, schema, document["components"]["schemas"], asks)

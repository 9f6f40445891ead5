"""A report is taken from the host that its token belongs to, whole and of our schema, or not."""

from __future__ import annotations

import dataclasses

import pytest
from flask.testing import FlaskClient

from netwatch import wire
from netwatch.api.agents import PATH, create_agents_app
from netwatch.controller.policies import Signed
from netwatch.model.policy_version import Document, Wanted
from netwatch.model.report import Report
from tests.fakes import FakeController

POLICY = """apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {governs: app=db, rules: [{from: app=web, ports: 5432}]}
"""
REPORT = Report(host="a", boot="b1", sequence=1, started=1, ended=2)


@pytest.fixture
def controller() -> FakeController:
    return FakeController()


@pytest.fixture
def agent(controller: FakeController) -> FlaskClient:
    return create_agents_app(controller).test_client()  # type: ignore[arg-type]


def test_a_report_is_taken_once(agent: FlaskClient, controller: FakeController) -> None:
    """A retry of the same report is answered as well, and changes nothing."""
    headers = {"Authorization": "Bearer token-of-a"}
    answers = [agent.post(PATH, data=wire.pack(REPORT), headers=headers).json for _ in range(2)]
    told = {"ok": True, "policies": None}
    assert answers == [told | {"new": True}, told | {"new": False}]
    assert controller.reports == [REPORT]


def test_the_answer_says_what_is_to_be_in_force(
    agent: FlaskClient, controller: FakeController
) -> None:
    """With the documents, unless the agent says that it holds them already."""
    document = Document("db.yaml", POLICY)
    sha256 = controller.policies.apply([document], Signed("ada"), confirm_s=60).sha256
    wanted = []
    for holds in ("", sha256):
        headers = {"Authorization": "Bearer token-of-a", wire.HOLDS: holds}
        answer = agent.post(PATH, data=wire.pack(REPORT), headers=headers)
        wanted.append(wire.unpack_answer(answer.data).policies)
    assert wanted == [
        Wanted(1, 1, sha256, 60.0, (document,)),
        Wanted(1, 1, sha256, 60.0, None),
    ]


@pytest.mark.parametrize(
    ("token", "body", "status"),
    [
        pytest.param(None, wire.pack(REPORT), 401, id="no token"),
        pytest.param("Bearer wrong", wire.pack(REPORT), 401, id="unknown token"),
        pytest.param("Basic token-of-a", wire.pack(REPORT), 401, id="another scheme"),
        pytest.param("Bearer token-of-b", wire.pack(REPORT), 403, id="another host's token"),
        pytest.param("Bearer token-of-a", b"", 400, id="empty"),
        pytest.param("Bearer token-of-a", b"not a report", 400, id="not ours"),
        pytest.param("Bearer token-of-a", wire.pack(REPORT)[:-3], 400, id="cut off"),
        pytest.param("Bearer token-of-a", bytes(17 * 1024 * 1024), 413, id="too large"),
        pytest.param(
            "Bearer token-of-a",
            wire.pack(dataclasses.replace(REPORT, schema=99)),
            400,
            id="a schema of tomorrow",
        ),
    ],
)
def test_what_is_no_report_of_this_agent_is_refused(
    agent: FlaskClient, controller: FakeController, token: str | None, body: bytes, status: int
) -> None:
    headers = {"Authorization": token} if token else {}
    answer = agent.post(PATH, data=body, headers=headers)
    assert answer.status_code == status
    assert answer.json is not None and answer.json["ok"] is False
    assert controller.reports == []


@pytest.mark.parametrize("path", ["/", "/api/v1/edges", "/metrics", "/login"])
def test_the_agents_listener_serves_nothing_else(agent: FlaskClient, path: str) -> None:
    headers = {"Authorization": "Bearer token-of-a"}
    assert agent.get(path, headers=headers).status_code == 404

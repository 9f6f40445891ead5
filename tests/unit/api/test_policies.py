"""The routes of policy versions: a life of one, strict bodies, and errors with their place."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

DB = """apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {governs: app=db, rules: [{from: app=web, ports: 5432}]}
"""
FILE = {"name": "db.yaml", "text": DB}
VERSION = {
    "version",
    "sha256",
    "state",
    "author",
    "reason",
    "ticket",
    "replay",
    "created",
    "confirm_by",
    "restores",
    "documents",
}


def post(program: FlaskClient, path: str, **body: Any) -> tuple[int, Any]:
    answer = program.post(f"/api/v1/policies{path}", json=body)
    return answer.status_code, answer.json


def get(program: FlaskClient, path: str = "") -> Any:
    return program.get(f"/api/v1/policies{path}").json


def test_the_life_of_a_version(program: FlaskClient) -> None:
    """Applied, confirmed, shown with its text, changed in mode, gone back to."""
    status, answer = post(program, "", documents=[FILE], author="ada", reason="why", confirm=60)
    assert (status, set(answer), set(answer["version"])) == (201, {"ok", "version"}, VERSION)
    assert answer["version"]["state"] == "unconfirmed" and answer["version"]["confirm_by"]
    assert post(program, "/current/confirm")[1]["version"]["state"] == "in-force"
    assert get(program, "/1")["documents"] == [FILE]
    mode = {"name": "db", "mode": "stage", "author": "ada", "confirm": 0}
    assert post(program, "/1/mode", **mode)[0] == 201
    assert "mode: stage" in get(program, "/current")["documents"][0]["text"]
    assert post(program, "/previous/rollback", author="eve")[1]["version"]["restores"] == 1
    rows = get(program)["policies"]
    assert [(row["version"], row["state"]) for row in rows] == [
        (3, "in-force"),
        (2, "past"),
        (1, "past"),
    ]
    assert rows[0]["sha256"] == rows[2]["sha256"] != rows[1]["sha256"]


def test_pages_go_from_the_newest_to_the_oldest(program: FlaskClient) -> None:
    for _ in range(3):
        post(program, "", documents=[FILE], author="ada", confirm=0)
    seen, cursor = [], ""
    while cursor is not None:
        page = get(program, f"?limit=1&cursor={cursor}" if cursor else "?limit=1")
        seen += [row["version"] for row in page["policies"]]
        cursor = page["next"]
    assert seen == [3, 2, 1]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        pytest.param("", {"documents": [FILE]}, 400, "author is missing", id="nobody"),
        pytest.param("", {"author": "a"}, 400, "documents is missing", id="nothing"),
        pytest.param("", {"author": "a", "documents": "x"}, 400, "a list of", id="no list"),
        pytest.param("", {"author": "a", "documents": ["x"]}, 400, "a list of", id="no files"),
        pytest.param(
            "",
            {"author": "a", "documents": [FILE | {"path": "x"}]},
            400,
            "a list of",
            id="a file with more",
        ),
        pytest.param(
            "", {"author": "a", "documents": [FILE], "confirm": 3601}, 400, "3600", id="too long"
        ),
        pytest.param(
            "", {"author": "a", "documents": [FILE], "confirm": True}, 400, "whole", id="a flag"
        ),
        pytest.param(
            "/1/mode", {"author": "a", "name": "db", "mode": "off"}, 400, "'off'", id="no mode"
        ),
        pytest.param("/9/rollback", {"author": "a"}, 404, "'9'", id="no such version"),
        pytest.param("/current/confirm", {}, 409, "no policy version waits", id="not waiting"),
    ],
)
def test_what_is_wrong_is_said(
    program: FlaskClient, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    code, answer = post(program, path, **body)
    error = answer["error"]
    assert (code, answer["ok"]) == (status, False)
    assert words in f"{error['message']} {error['hint']}"
    assert get(program)["policies"] == []


def test_a_mistake_has_its_place(program: FlaskClient) -> None:
    """File, line and column, for an editor to go to; nothing is kept."""
    bad = {"name": "bad.yaml", "text": DB.replace("governs", "goverms")}
    status, answer = post(program, "", documents=[FILE, bad], author="ada")
    error = answer["error"]
    assert (status, error["file"], error["line"], error["column"]) == (400, "bad.yaml", 4, 8)
    assert get(program)["policies"] == []


def test_a_stranger_decides_nothing(stranger: FlaskClient) -> None:
    for path in ("", "/1/confirm", "/1/rollback", "/1/mode"):
        assert post(stranger, path, author="eve", documents=[FILE])[0] in (401, 403)

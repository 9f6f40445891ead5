"""A draft against what was seen: each outcome, who breaks, and the same id for the same input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netwatch.model.errors import InvalidDocument
from netwatch.policy.evidence import Evidence, Reader, suspects
from netwatch.policy.replay import replay

from .worlds import WORLD, segment

NOW = 1_795_315_200_000_000_000
DRAFT = segment(
    "governs: {app: db}\nmode: observe\nrules: [{from: {app: api}, ports: 5432}]", "db"
)
TLS = segment("governs: {app: db}\nrules: [{from: {app: api}, require: encrypted}]", "db")


def _flow(source: str, destination: str, port: int = 5432, **more: Any) -> dict[str, Any]:
    """A line of `netwatch read --json`; ends are addresses, or identities with an address."""

    def end(text: str, number: int) -> dict[str, Any]:
        name, _, address = text.rpartition("@")
        return {"address": address, "port": number, "workload": name or None}

    return {
        "client": end(source, 40000),
        "server": end(destination, port),
        "protocol": "tcp",
        "first_seen": "2026-11-20T10:00:00.000000Z",
        "last_seen": "2026-11-20T11:00:00.000000Z",
        "state": "established",
        "direction": "seen",
        **more,
    }


WEB, API, DB, OUT = "198.18.0.1", "198.18.0.2", "198.18.0.3", "203.0.113.9"


def _evidence(*flows: dict[str, Any]) -> Evidence:
    reader = Reader(WORLD)
    reader.read([json.dumps(flow) for flow in flows], "flows.json")
    return reader.evidence()


@pytest.mark.parametrize(
    ("flow", "outcome"),
    [
        pytest.param(_flow(API, DB), "permitted", id="allowed and stays"),
        pytest.param(_flow(WEB, DB), "escaped", id="seen, and the draft denies"),
        pytest.param(_flow(WEB, DB, verdict="deny"), "rejected", id="denied and stays"),
        pytest.param(_flow(API, DB, verdict="deny"), "misdropped", id="denied, the draft allows"),
        pytest.param(_flow(WEB, DB, direction="guessed"), "uncertain", id="who called is a guess"),
        pytest.param(_flow("h9/shop/gone@" + WEB, DB), "uncertain", id="a workload that went"),
        pytest.param(_flow("h1/shop/api@198.18.9.9", DB), "permitted", id="an address that moved"),
        pytest.param(_flow("h7/shop/api@198.18.9.9", DB), "permitted", id="moved to another host"),
        pytest.param(_flow(OUT, DB), "escaped", id="from outside"),
    ],
)
def test_each_outcome(flow, outcome: str) -> None:
    (row,) = replay(DRAFT, WORLD, _evidence(flow), now=NOW).rows
    assert row.outcome == outcome, row.reason


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("encrypted", "permitted"), ("plaintext", "escaped"), ("unknown", "uncertain")],
)
def test_an_obligation_is_held_to_what_was_proven(status: str, outcome: str) -> None:
    seen = _evidence(_flow(API, DB, encryption={"status": status}))
    assert replay(TLS, WORLD, seen, now=NOW).rows[0].outcome == outcome


def test_policies_of_before_judge_where_they_are_given() -> None:
    """The same evidence: without a policy it had gone through, with one it had not."""
    seen = _evidence(_flow(WEB, DB))
    closed = segment("governs: {app: db}\ningress: isolated", "old")
    assert replay(DRAFT, WORLD, seen, now=NOW, before=()).rows[0].outcome == "escaped"
    assert replay(DRAFT, WORLD, seen, now=NOW, before=closed).rows[0].outcome == "rejected"


def test_conversations_of_one_call_are_counted_once_with_first_and_last() -> None:
    """Both reporters tell the same connections; the client's side counts."""
    late = {
        "first_seen": "2026-11-21T10:00:00.000000Z",
        "last_seen": "2026-11-22T10:00:00.000000Z",
    }
    seen = _evidence(
        _flow(WEB, DB, reporter="client", connections=3),
        _flow(WEB, DB, reporter="server", connections=3),
        _flow(WEB, DB, reporter="client", connections=4, **late),
    )
    (broken, other) = replay(DRAFT, WORLD, seen, now=NOW).breaks
    assert (broken.name, broken.calls, broken.connections) == ("shop/db", 1, 7)
    assert other.name == "shop/web"
    (call,) = seen.calls
    assert call.last_seen - call.first_seen == 2 * 86_400 * 10**9
    assert len(call.days) == 3


def test_the_id_names_the_input_and_nothing_else() -> None:
    """Order of lines, places and the time do not change it; a flow or a rule does."""
    one, two = _flow(WEB, DB), _flow(API, DB)
    found = replay(DRAFT, WORLD, _evidence(one, two), now=NOW)
    moved = segment(
        "# moved\ngoverns: {app: db}\nrules: [{from: {app: api}, ports: 5432, because: x}]", "db"
    )
    assert replay(moved, WORLD, _evidence(two, one), now=NOW + 10**9).id == found.id
    assert replay(DRAFT, WORLD, _evidence(one), now=NOW).id != found.id
    assert replay(TLS, WORLD, _evidence(one, two), now=NOW).id != found.id


def test_flows_edges_and_answers_are_read_alike() -> None:
    peer = {"kind": "workload", "namespace": "shop", "host": "h1"}
    edge = {
        "id": "h1/shop/web>h1/shop/db:tcp/5432",
        "source": {**peer, "id": "h1/shop/web", "name": "web"},
        "destination": {**peer, "id": "h1/shop/db", "name": "db"},
        **{k: v for k, v in _flow(WEB, DB).items() if k.endswith("_seen")},
        "protocol": "tcp",
        "port": 5432,
        "states": ["established"],
    }
    lines = (
        _flow(WEB, DB),
        {"ok": True, "flows": [_flow(WEB, DB)], "next": None, "losses": {}},
        edge,
        {"ok": True, "edges": [edge], "next": None, "losses": {}},
    )
    for line in lines:
        (call,) = _evidence(line).calls
        assert call.id == edge["id"] and call.connections == 1 and call.answered


@pytest.mark.parametrize("line", ["nonsense", "{}", '{"client": 1}', "[1]", '{"flows": [{}]}'])
def test_what_is_no_flow_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(InvalidDocument) as raised:
        Reader(WORLD).read([json.dumps(_flow(WEB, DB)), line], "f")
    assert (raised.value.file, raised.value.line) == ("f", 2)


def test_edges_under_open_alerts_are_suspects() -> None:
    alerts = [
        {"state": "open", "subject": "a>b:tcp/1", "evidence": [{"edge": "c>d:tcp/2"}]},
        {"state": "resolved", "subject": "e>f:tcp/3", "evidence": []},
    ]
    assert suspects(alerts) == {"a>b:tcp/1", "c>d:tcp/2"}

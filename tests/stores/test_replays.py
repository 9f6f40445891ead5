"""A replay of all that is stored: the same answer as of every single flow, one after the other."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from netwatch.controller.records import FlowQuery
from netwatch.controller.replays import held, replay_of
from netwatch.controller.service import Controller
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Encryption, Endpoint, Flow, live_flow_as_json
from netwatch.model.policy_version import Document
from netwatch.model.times import SECOND
from netwatch.model.workload import Label, workload_as_json
from netwatch.policy.document import parse
from netwatch.policy.evidence import Reader
from netwatch.policy.replay import replay
from netwatch.policy.world import world_of_rows
from tests.unit.controller.samples import DB, PLAIN, START, TLS, WEB, Clock, controller, report

DRAFT = Document(
    "db.yaml",
    "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {name: db, namespace: shop}\nspec:\n"
    "  governs: {app: db}\n"
    "  mode: observe\n  rules: [{from: {app: web}, ports: 5432, require: encrypted}]\n",
)
DAY = 86_400 * SECOND
DATABASE, FRONT = (replace(w, labels=(Label("app", w.name, "own"),)) for w in (DB, WEB))


def _flows(seed: int) -> list[list[Flow]]:
    """Reports of conversations with all that may differ, some of them in several deltas."""
    pick = random.Random(seed)
    ends = [Endpoint("198.18.0.2", None, WEB.identity), Endpoint("203.0.113.7", None),
            Endpoint("203.0.113.8", None), Endpoint("203.0.113.97", None)]  # fmt: skip
    reports: list[list[Flow]] = []
    seen: set[tuple[object, ...]] = set()
    for _ in range(4):
        flows = []
        for _ in range(60):
            client = replace(pick.choice(ends), port=pick.randrange(1024, 1040))
            first = START - pick.randrange(3) * DAY
            flows.append(
                Flow(
                    client,
                    Endpoint("198.18.1.2", pick.choice((5432, 80)), None),
                    pick.choice(("tcp", "udp")),
                    first,
                    first + pick.randrange(1, 9) * SECOND,
                    1, 1, 60, 60, 10, pick.choice((0, 10)),
                    state=pick.choice(("established", "unanswered", "reset", "one-way")),
                    direction=pick.choice(("seen", "seen", "guessed")),
                    encryption=pick.choice((TLS, TLS, PLAIN, Encryption())),
                    connections=pick.choice((0, 1, 3)),
                    reporter=pick.choice(("client", "client", "server")),
                    verdict=pick.choice((None, "allow", "allow", "deny")),
                )
            )  # fmt: skip
        # One delta of a connection in each instant: of two, which is the last would be chance.
        reports.append([flow for flow in flows if _instant(flow) not in seen])
        seen |= set(map(_instant, reports[-1]))
        reports[-1] = list({_instant(flow): flow for flow in reports[-1]}.values())
    return reports


def _instant(flow: Flow) -> tuple[object, ...]:
    ends = (flow.client, flow.server, flow.protocol, flow.reporter)
    return *ends, flow.first_seen, flow.last_seen


@pytest.mark.parametrize("seed", range(3))
def test_the_answer_is_that_of_every_flow_judged_alone(tmp_path: Path, seed: int) -> None:
    """Same calls, counts, verdicts and id, though far fewer flows are judged."""
    fleet = controller(tmp_path, Clock(START + 60 * SECOND))
    fleet.ingest(report("b", workloads=(DATABASE,), now=START - 5 * DAY))
    for number, flows in enumerate(_flows(seed)):
        fleet.ingest(report("a", *flows, sequence=number, workloads=(FRONT,)))
    found = fleet.replay([DRAFT])
    every = _every_flow(fleet)
    rows = map(workload_as_json, fleet.workloads())
    world = world_of_rows(rows, [a for h in fleet.hosts() for a in h.addresses], "test")
    reader = Reader(world)
    reader.read([json.dumps(live_flow_as_json(flow)) for flow in every], "flows")
    singly = replay(parse(DRAFT.text, DRAFT.name), world, reader.evidence(), now=START)
    assert [(r.call, r.outcome, r.will) for r in found.rows] == [
        (r.call, r.outcome, r.will) for r in singly.rows
    ]
    assert (found.id, found.counts()) == (singly.id, singly.counts())
    assert len(found.rows) < len(every) and len(set(found.counts().values())) > 2
    fleet.close()


def _every_flow(fleet: Controller) -> list[Flow]:
    flows: list[Flow] = []
    cursor = None
    while True:
        page, cursor = fleet.flows(FlowQuery(limit=50, cursor=cursor))
        flows += page
        if cursor is None:
            return flows


def test_a_period_is_replayed_alone(tmp_path: Path) -> None:
    fleet = controller(tmp_path, Clock(START + 60 * SECOND))
    fleet.ingest(report("a", *_flows(1)[0]))
    whole, part = fleet.replay([DRAFT]), fleet.replay([DRAFT], since=START)
    assert (
        0 < len(part.rows) < len(whole.rows) and min(r.call.last_seen for r in part.rows) >= START
    )
    fleet.close()


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    found = replay_of([], [DRAFT], before=None, world=((DB,), ()), now=START, left_out=7)
    assert (found.rows, found.dropped) == ((), 7)


def test_a_second_replay_is_refused_while_one_runs() -> None:
    lock = threading.Lock()
    with held(lock, "busy"), pytest.raises(NetwatchError) as caught, held(lock, "a replay runs"):
        pass
    assert (caught.value.code, caught.value.message) == ("busy", "a replay runs")
    with held(lock, "again"):
        pass

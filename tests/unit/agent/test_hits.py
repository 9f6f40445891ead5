"""Which rules were used: counted per rule of either end, under what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netwatch.agent.hits import Hits, file_of, used
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.times import SECOND
from netwatch.policy.ir import HostPeer, InternetPeer, Mode, Place, PortSpec, WorkloadPeer
from tests.unit.enforce.worlds import allow, chosen, policy, snapshot, workload

HERE = snapshot(workload("web", 10), workload("api", 11))
FROM_WEB = allow(WorkloadPeer(chosen("app", "web")), ports=(PortSpec("tcp", 80, 80),))
NEVER = allow(HostPeer())
TO_API = allow(WorkloadPeer(chosen("app", "api")))
API = policy(chosen("app", "api"), isolates_ingress=True, ingress=(FROM_WEB, NEVER))
WEB = policy(chosen("app", "web"), name="out", isolates_egress=True, egress=(TO_API,))
CALL = Flow(
    Endpoint("198.18.1.10", 40000, "a/x/web"),
    Endpoint("198.18.1.11", 80, "a/x/api"),
    *("tcp", 5, 9),
    direction="seen",
    connections=3,
)


def counted(file: Path, *documents: object) -> list[tuple[int, int | None]]:
    return [(u.hit.count, u.hit.last) if u.hit else (-1, None) for u in used(documents, file)]


def test_the_rules_of_both_ends_are_hit_and_the_others_are_not(tmp_path: Path) -> None:
    file = file_of(tmp_path, "a")
    hits = Hits(file)
    documents = (API, WEB)
    hits.count([CALL, replace(CALL, last_seen=20, connections=1)], documents, HERE, 100)
    hits.save(100)
    assert counted(file, API, WEB) == [(4, 20), (0, None), (4, 20)]


@pytest.mark.parametrize(
    "flow",
    [
        pytest.param(replace(CALL, direction="guessed"), id="guessed"),
        pytest.param(replace(CALL, connections=0), id="the rest of a conversation"),
        pytest.param(replace(CALL, server=Endpoint("198.18.1.11", 81, "a/x/api")), id="denied"),
    ],
)
def test_what_no_rule_let_through_hits_none(tmp_path: Path, flow: Flow) -> None:
    hits = Hits(file_of(tmp_path, "a"))
    hits.count([flow], (API,), HERE, 100)
    hits.save(100)
    assert counted(file_of(tmp_path, "a"), API) == [(0, None), (0, None)]


def test_hits_survive_the_agent_and_follow_a_rule_to_its_new_line(tmp_path: Path) -> None:
    """A rule that says something else, or stands in a staged document, begins anew."""
    file = file_of(tmp_path, "a")
    first = Hits(file)
    first.count([CALL], (API,), HERE, 100)
    first.save(100)
    moved = replace(API, ingress=(NEVER, replace(FROM_WEB, place=Place("new.yaml", 7, 1))))
    second = Hits(file)
    second.count([CALL], (moved,), HERE, 100 + 60 * SECOND)
    assert counted(file, moved) == [(0, None), (6, 9)]
    changed = replace(API, ingress=(replace(FROM_WEB, peers=(InternetPeer(),)), NEVER))
    assert counted(file, changed) == [(-1, None), (0, None)]
    assert used((replace(API, mode=Mode.STAGE),), file) == ()


def test_peers_of_different_kinds_are_different_rules(tmp_path: Path) -> None:
    """`from: host` and `from: internet` have no field that tells them apart."""
    document = replace(API, ingress=(NEVER, allow(InternetPeer())))
    file = file_of(tmp_path, "a")
    hits = Hits(file)
    outside = replace(CALL, client=Endpoint("192.0.2.1", 40000))
    hits.count([outside], (document,), HERE, 100)
    hits.save(100)
    assert counted(file, document) == [(3, 9), (0, None)]

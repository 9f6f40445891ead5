"""Limits: what is wide becomes a rule, what is too much is refused whole and named."""

from __future__ import annotations

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.layout import CapReached
from netwatch.enforce.ruleset import Ruleset
from netwatch.enforce.told import MAX_EVENT
from netwatch.model.workload import Label
from netwatch.policy.ir import PortSpec, WorkloadPeer
from tests.unit.enforce.worlds import allow, chosen, policy, snapshot, workload


def members(ruleset: Ruleset, name: str) -> int:
    """How many members the IPv4 set has."""
    return next(len(each.members) for each in ruleset.sets if each.title == f"nw-{name}4")


def crowd(count: int, app: str) -> list[object]:
    """Workloads with the same labels and addresses of their own."""
    label = (Label("app", app, "lab"),)
    return [
        workload(f"{app}{n}", n, labels=label, addresses=(f"198.18.1.{n}",), ports=())
        for n in range(2, 2 + count)
    ]


def only(*ports: PortSpec) -> Ruleset:
    host = snapshot(workload("web", 250), *crowd(100, "api"))  # type: ignore[arg-type]
    rule = allow(WorkloadPeer(chosen("app", "web")), ports=ports)
    document = policy(chosen("app", "api"), isolates_ingress=True, ingress=(rule,))
    return compile((document,), host, now=0)


@pytest.mark.parametrize(
    ("last", "edges"),
    [
        pytest.param(80, 100, id="one port"),
        pytest.param(99, 2000, id="as many as one start may add"),
        pytest.param(100, 0, id="one more becomes a rule"),
        pytest.param(1000, 0, id="a long range is a rule"),
    ],
)
def test_one_start_adds_at_most_two_thousand_members(last: int, edges: int) -> None:
    assert MAX_EVENT == 2000
    assert members(only(PortSpec("tcp", 80, last)), "edge") == edges


def test_too_many_rules_are_refused_whole_and_the_documents_named() -> None:
    """Each workload may reach one other on every port: no two share a rule."""
    apps = [workload(f"w{n}", n + 2) for n in range(70)]
    documents = [
        policy(
            chosen("app", f"w{n}"),
            name=f"pair-{n}",
            isolates_ingress=True,
            ingress=(allow(WorkloadPeer(chosen("app", f"w{(n + 1) % 70}"))),),
        )
        for n in range(70)
    ]
    with pytest.raises(CapReached, match=r"need \d+ rules .* at most 64; .*x/pair-0"):
        compile(documents, snapshot(*apps), now=0)

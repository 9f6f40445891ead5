"""A network that fails closed stays so while its governed workload is away, and no longer."""

from __future__ import annotations

from dataclasses import replace

from netwatch.enforce.closures import bridges_of
from netwatch.enforce.compile import compile
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Label, Workload
from netwatch.policy.document import parse

POLICY = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {governs: app=db, mode: enforce, rules: [{from: app=api, ports: 80}]}
"""


def workload(name: str, number: int) -> Workload:
    return Workload(
        "h",
        "shop",
        name,
        "docker",
        labels=(Label("app", name, "own"),),
        addresses=(f"198.18.0.{number}",),
        networks=("back",),
    )


NETWORKS = (
    Network("back", "bridge", "br-back", ("198.18.0.0/24",)),
    Network("front", "bridge", "br-front", ("198.18.1.0/24",)),
)
DB, ROGUE = workload("db", 2), workload("rogue", 3)
BOTH = Snapshot("h", workloads=(DB, ROGUE), networks=NETWORKS)
AWAY = replace(BOTH, workloads=(ROGUE,))


def closed(text: str, snapshot: Snapshot) -> frozenset[str]:
    return bridges_of(compile(parse(text, "p.yaml"), snapshot, now=0))


def test_it_closes_for_who_is_governed() -> None:
    assert closed(POLICY, BOTH) == {"br-back"}
    assert closed(POLICY, AWAY) == frozenset()


def test_it_stays_closed_while_that_one_is_away() -> None:
    """dockerd is restarted, and the denied container is back before the governed one."""
    assert closed(POLICY, replace(AWAY, closed=("br-back",))) == {"br-back"}


def test_nothing_stays_closed_without_an_enforcing_document_or_a_network() -> None:
    left = replace(AWAY, closed=("br-back", "br-gone"))
    assert closed(POLICY.replace("enforce", "stage"), left) == frozenset()
    assert closed(POLICY, left) == {"br-back"}

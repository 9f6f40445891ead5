"""Possible pairs follow networks and doors; allowed ones are those that `decide` permits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.model.workload import DocumentedPort, Label, PublishedPort, Workload
from netwatch.policy.document import parse
from netwatch.policy.evaluate import STAGED
from netwatch.policy.ir import World
from netwatch.policy.links import INTERNET, allowed, possible

HTTP = (DocumentedPort(80, "tcp", "image", "http"),)


def workload(name: str, number: int, *, network: str = "front", **more: object) -> Workload:
    made = Workload(
        "h",
        "shop",
        name,
        "docker",
        labels=(Label("app", name, "own"),),
        addresses=(f"198.18.0.{number}",),
        ports=HTTP,
        networks=(network,),
    )
    return replace(made, **more)


WEB = workload("web", 1, published=(PublishedPort("0.0.0.0", 8080, 80, "tcp"),))
API = workload("api", 2, networks=("front", "back"))
DB = workload("db", 3, network="back")
BATCH = workload("batch", 4, ports=())
WORLD = World((WEB, API, DB, BATCH))


def text(kind: str, spec: str) -> str:
    head = f"apiVersion: netwatch/v1\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\n"
    return f"{head}spec: {{{spec}}}\n"


def test_bridges_that_are_not_shared_part_workloads() -> None:
    """`web` is called through its door by `db` too; `batch` listens nowhere."""
    found = set(possible(WORLD))
    assert ("shop/db", "shop/web") in found
    assert ("shop/web", "shop/db") not in found
    assert {source for source, destination in found if destination == "shop/db"} == {"shop/api"}
    assert not [pair for pair in found if pair[1] == "shop/batch"]
    assert [pair for pair in found if pair[0] == INTERNET] == [(INTERNET, "shop/web")]
    assert ("shop/batch", INTERNET) in found


def test_without_policies_everything_possible_is_allowed() -> None:
    assert set(allowed((), WORLD, now=0)) == set(possible(WORLD))


@pytest.mark.parametrize(
    ("spec", "lost"),
    [
        pytest.param(
            "governs: app=db, mode: enforce, rules: [{from: app=web, ports: 80}]",
            {("shop/api", "shop/db")},
            id="who is not named loses its way in",
        ),
        pytest.param(
            "governs: app=api, mode: enforce, rules: [{to: app=db, ports: 80}]",
            {("shop/api", "shop/web"), ("shop/api", INTERNET)},
            id="an isolated egress closes the internet",
        ),
        pytest.param(
            "governs: app=api, mode: enforce, rules: [{to: 203.0.113.0/24, ports: 443}]",
            {("shop/api", "shop/web"), ("shop/api", "shop/db")},
            id="a documentation network is no way to the internet, one public address is",
        ),
        pytest.param(
            "governs: app=web, mode: enforce, ingress: isolated",
            {("shop/api", "shop/web"), ("shop/db", "shop/web"), ("shop/batch", "shop/web")}
            | {(INTERNET, "shop/web")},
            id="a door that nobody may use",
        ),
        pytest.param("governs: app=db, mode: stage, ingress: isolated", set(), id="staged"),
    ],
)
def test_policies_take_pairs_away(spec: str, lost: set[tuple[str, str]]) -> None:
    policies = parse(text("Segment", spec), "p.yaml")
    assert set(possible(WORLD)) - set(allowed(policies, WORLD, now=0)) == lost


def test_staged_documents_are_judged_when_asked() -> None:
    policies = parse(text("Segment", "governs: app=db, mode: stage, ingress: isolated"), "p.yaml")
    pairs = set(allowed(policies, WORLD, now=0, modes=STAGED))
    assert set(possible(WORLD)) - pairs == {("shop/api", "shop/db")}

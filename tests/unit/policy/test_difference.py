"""What a change of documents changes, in tables."""

from __future__ import annotations

import pytest

from netwatch.policy.difference import difference

from .worlds import WORLD, segment

DB = "governs: {app: db}\nrules:\n- {from: {app: api}, ports: 5432}"


def _told(before, after) -> list[str]:
    return [
        f"{c.kind} {c.source} -> {c.destination} {', '.join(map(str, c.ports))}"
        for c in difference(before, after, WORLD, now=0)
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("\n# a comment", [], id="a comment"),
        pytest.param("\n- {from: {app: api}, ports: 5432, name: again}", [], id="the same twice"),
        pytest.param("\n- {from: {app: web}, ports: 5432, deny: true}", [], id="denied anyway"),
        pytest.param(
            "\n- {from: {app: web}, ports: [5432, 5433, 53/udp]}",
            ["gained shop/web -> shop/db tcp/5432-5433, udp/53"],
            id="ports that are neighbours are one range",
        ),
        pytest.param(
            "\n- {from: {app: api}, ports: 5000-6000}",
            ["gained shop/api -> shop/db tcp/5000-5431, tcp/5433-6000"],
            id="only what is new",
        ),
        pytest.param(
            "\n- {from: {app: api}, ports: 5432, deny: true}",
            ["lost shop/api -> shop/db tcp/5432"],
            id="a deny",
        ),
        pytest.param(
            "\n- {from: {app: web}}",
            [
                "gained shop/web -> shop/db tcp/any, udp/any, sctp/any, without ports",
            ],
            id="every port",
        ),
        pytest.param(
            "\n- {from: 203.0.113.0/24, ports: 5432}",
            ["gained outside, as 203.0.113.0 -> shop/db tcp/5432"],
            id="a network",
        ),
        pytest.param(
            "\n- {from: internet, ports: 5432}",
            [
                "gained outside, as 1.0.0.0 -> shop/db tcp/5432",
                "gained outside, as ::1:0:0 -> shop/db tcp/5432",
            ],
            id="the internet, of both families",
        ),
    ],
)
def test_only_reachability_is_told(more: str, told: list[str]) -> None:
    assert _told(segment(DB), segment(DB + more, name="s")) == told


def test_gained_and_lost_change_places_with_the_sets() -> None:
    before, after = segment(DB), segment("governs: {app: db}\ningress: isolated")
    assert _told(before, after) == ["lost shop/api -> shop/db tcp/5432"]
    assert _told(after, before) == ["gained shop/api -> shop/db tcp/5432"]


def test_workloads_that_no_rule_tells_apart_are_one_end() -> None:
    """web, api and pay's workload stay apart by namespace; within shop nobody is named."""
    (change,) = (
        c
        for c in difference((), segment("governs: all\ningress: isolated"), WORLD, now=0)
        if c.source == "pay/pay"
    )
    assert change.destination == "shop/web and 2 like it"
    assert change.destinations == ("shop/web", "shop/api", "shop/db")

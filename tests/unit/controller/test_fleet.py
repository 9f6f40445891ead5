"""Who an address is: named only where one answer is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from netwatch.controller.fleet import Fleet, peer_of
from netwatch.model.edge import Peer
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.report import Capture
from netwatch.model.times import SECOND
from netwatch.model.workload import PublishedPort, Workload
from tests.unit.controller.samples import DB, START, WEB, report


def a_fleet() -> Fleet:
    """Hosts a, b, c; b and c both have a 172.17.0.0/24 and its gateway, as Docker does."""
    doors = (
        PublishedPort("0.0.0.0", 8080, 80, "tcp"),
        PublishedPort("203.0.113.2", 8081, 81, "tcp"),
    )
    inner_b = Workload("b", "x", "inner", "docker", addresses=("172.17.0.9",))
    inner_c = replace(inner_b, host="c", name="other", addresses=("172.17.0.7",))
    shadow = Workload("b", "x", "shadow", "docker", addresses=("203.0.113.2",), host_network=True)
    fleet = Fleet()
    fleet.learn(report("a", addresses=("203.0.113.1", "198.18.0.1")), START)
    fleet.learn(
        report(
            "b",
            addresses=("203.0.113.2", "172.17.0.1"),
            workloads=(replace(DB, published=doors), inner_b, shadow),
        ),
        START,
    )
    fleet.learn(report("c", addresses=("203.0.113.3", "172.17.0.1"), workloads=(inner_c,)), START)
    return fleet


@pytest.mark.parametrize(
    ("address", "port", "reporter", "id", "expected_port"),
    [
        pytest.param("198.18.1.2", 5432, "a", "b/shop/db", 5432, id="a workload elsewhere"),
        pytest.param("172.17.0.9", 1, "b", "b/x/inner", 1, id="a workload of its own"),
        pytest.param("172.17.0.9", 1, "a", "b/x/inner", 1, id="elsewhere, unique, routed"),
        pytest.param(
            "172.17.0.9", 1, "c", "external:172.17.0.9", 1, id="lies in a local subnet: not b's"
        ),
        pytest.param("203.0.113.2", 22, "a", "host:b", 22, id="a host"),
        pytest.param("172.17.0.1", 53, "b", "host:b", 53, id="its own gateway, not c's"),
        pytest.param("172.17.0.1", 53, "a", "external:172.17.0.1", 53, id="two hosts have it"),
        pytest.param("127.0.0.1", 53, "a", "host:a", 53, id="loopback is the reporter"),
        pytest.param("203.0.113.2", 8080, "a", "b/shop/db", 80, id="a door on every address"),
        pytest.param("203.0.113.2", 8081, "a", "b/shop/db", 81, id="a door on this address"),
        pytest.param("172.17.0.1", 8081, "b", "host:b", 8081, id="no door on that address"),
        pytest.param("192.0.2.7", 443, "a", "external:192.0.2.7", 443, id="outside"),
        pytest.param("2001:db8::7", 443, "a", "external:2001:db8::7", 443, id="outside, IPv6"),
    ],
)
def test_who_serves(address: str, port: int, reporter: str, id: str, expected_port: int) -> None:
    called = Flow(Endpoint("192.0.2.1", 4), Endpoint(address, port), "tcp", START, START)
    (named,) = a_fleet().named([called], reporter)
    assert (named.destination, named.port) == (id, expected_port)
    assert named.original_port == (port if port != expected_port else None)


def test_a_host_may_name_its_own_and_known_workloads_only() -> None:
    """A compromised agent can not put words into another host's mouth by a name it invents."""
    fleet = a_fleet()
    claims = ["a/shop/just-gone", "b/shop/db", "b/shop/invented"]
    flows = [
        Flow(Endpoint("192.0.2.1", 4, claim), Endpoint("192.0.2.2", 1), "tcp", START, START)
        for claim in claims
    ]
    named = [n.source for n in fleet.named(flows, "a")]
    assert named == ["a/shop/just-gone", "b/shop/db", "external:192.0.2.1"]


def test_what_becomes_known_later_is_renamed_once() -> None:
    fleet = Fleet()
    fleet.learn(report("a"), START)
    assert fleet.learn(report("b"), START).names == {
        "external:198.18.1.2": "b/shop/db",
        "external:203.0.113.98": "host:b",
    }
    assert fleet.learn(report("b", sequence=2), START).names == {}


@pytest.mark.parametrize(
    "peer",
    [
        Peer("workload", WEB.name, WEB.namespace, WEB.host),
        Peer("workload", "with/slash", "gone", "z"),
        Peer("host", "a", host="a"),
        Peer("external", "2001:db8::7"),
    ],
)
def test_an_id_leads_back_to_its_peer(peer: Peer) -> None:
    assert peer_of(peer.id, {WEB.identity: WEB}) == peer


HOUR = 3_600 * SECOND


def test_an_agent_whose_clock_was_set_back_is_followed_on() -> None:
    """Its later reports say earlier times, and are what there is; a retry of an old one is not."""
    fleet = Fleet()
    fleet.learn(report("a", sequence=1, now=START), START)
    second = report("a", sequence=2, now=START - HOUR, capture=Capture("tcx"))
    fleet.learn(second, START + SECOND)
    assert fleet.hosts["a"].capture.method == "tcx"
    assert fleet.hosts["a"].interval >= 0
    fleet.learn(report("a", sequence=1, now=START), START + 2 * SECOND)
    assert fleet.hosts["a"].capture.method == "tcx"
    fleet.learn(replace(second, boot="new", sequence=0, workloads=()), START + 3 * SECOND)
    fleet.learn(replace(second, sequence=3), START + 4 * SECOND)
    assert fleet.present["a"] == ()


@pytest.mark.parametrize(
    ("ends", "heard", "skewed"),
    [
        pytest.param(range(10), range(10), False, id="right"),
        pytest.param(range(3600, 3610), range(10), True, id="an hour ahead"),
        pytest.param(range(-40, -30), range(10), True, id="behind"),
        pytest.param(range(-40, -30), [n / 100 for n in range(10)], False, id="a spool"),
        pytest.param([0, 1, 2, 3, 3604, 3605], range(6), False, id="not yet for long"),
    ],
)
def test_a_clock_is_wrong_if_it_is_so_report_after_report(
    ends: Sequence[int], heard: Sequence[float], skewed: bool
) -> None:
    fleet = Fleet()
    for sequence, (end, now) in enumerate(zip(ends, heard, strict=True)):
        told = report("a", sequence=sequence, now=START + end * SECOND)
        fleet.learn(told, START + int(now * SECOND))
    assert fleet.hosts["a"].skewed is skewed


def test_nobody_was_heard_in_the_future() -> None:
    """The controller's own clock was set back: who dies now is silent in a minute, not an hour."""
    fleet = Fleet()
    fleet.learn(report("a"), START)
    fleet.heard_by(START - HOUR)
    assert fleet.hosts["a"].last_report == START - HOUR

"""Quarantine in a lab host's kernel: nothing in, nothing out, at once; gone without a trace."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.test_enforce import (
    API_FROM_WEB,
    backend,
    call,
    conversation,
    estate,
    host,
    inside,
    left,
    network_policy,
    ping,
    put,
)

pytestmark = pytest.mark.netns
__all__ = ["backend", "estate", "put"]  # fixtures

WEB, API, ROGUE = "198.18.1.10", "198.18.1.11", "198.18.1.12"
DEAD_WITHIN_S = 1.0
SLACK = 3  # semantics section 8: deadlines that are promises are tested with three times theirs
ONE_BACKEND = pytest.mark.parametrize("backend", ["nft"], indirect=True)
OPENS = network_policy("web", "Ingress, Egress", "ingress: [{}]\n  egress: [{}]")

# One round of an agent's Watchman on the lab host; with an argument web has that address now.
WATCH = """
import sys, time
from dataclasses import replace
from netwatch.agent.watchman import Watchman
from netwatch.discover.sources import find_source
from netwatch.settings import load
source = find_source(load())
source.start(lambda: None)
seen = source.snapshot()
if sys.argv[1:]:
    there = tuple(
        replace(w, addresses=(sys.argv[1],)) if w.name == "web" else w for w in seen.workloads
    )
    seen = replace(seen, workloads=there)
state, _ = Watchman()(seen, time.time_ns())
print(state.problem, *state.quarantined)
"""


def on_host(*command: str) -> Said:
    """A command on the lab host."""
    return run_in("a", *command)


def verb(*arguments: str) -> Said:
    """`netwatch …` on the lab host."""
    return on_host(sys.executable, "-m", "netwatch", *arguments)


def quarantine(*arguments: str) -> Said:
    said = verb("quarantine", *arguments, "--json")
    assert said.code == 0, said.err
    return said


def watch(*arguments: str) -> str:
    said = on_host(sys.executable, "-c", WATCH, *arguments)
    assert said.code == 0, said.err
    return said.out.strip()


@pytest.fixture
def free(backend: str) -> Iterator[str]:
    """A host whose runtime uses this backend; whoever is quarantined is free after the test."""
    inside(f"iptables-{backend}", "-N", "DOCKER")
    yield backend
    assert host("remove", "--release-all").code == 0
    inside(f"iptables-{backend}", "-X", "DOCKER")


def silent(name: str) -> bool:
    """Whether nobody reaches the workload and it reaches nobody, by both families."""
    calls = [
        call(*ends, 80, family=family)
        for family in (4, 6)
        for ends in ((name, "api"), ("api", name))
    ]
    return not any(calls)


def test_a_quarantined_workload_is_silent_where_no_policy_is(free: str) -> None:
    """TCP, UDP and ICMP, both directions, both families; everybody else goes on."""
    assert call("web", "api", 80) and call("api", "web", 53, udp=True)
    quarantine("web")
    assert silent("web")
    assert not call("api", "web", 53, udp=True)
    assert not call("web", "api", 53, udp=True)
    assert not ping("web", API, WEB)
    assert not ping("web", "198.18.1.1", WEB)
    assert call("rogue", "api", 80) and call("api", "rogue", 80, family=6)


@pytest.mark.parametrize(
    "target", [pytest.param(API, id="IPv4"), pytest.param("2001:db8:1::11", id="IPv6")]
)
def test_an_established_session_is_dead_within_a_second(free: str, target: str) -> None:
    """Not cut after a timeout: the next byte does not come back, and conntrack forgot it."""
    with conversation("web", target) as session, conversation("rogue", target) as other:
        verb("quarantine")  # whatever is read from disk for the first time
        began = time.monotonic()
        quarantine("shop/web")
        took = time.monotonic() - began
        assert not session.alive
        assert other.alive
    assert took < DEAD_WITHIN_S * SLACK
    tracked = inside("conntrack", "-L", "-f", "ipv6" if ":" in target else "ipv4")
    assert "198.18.1.10" not in tracked and "2001:db8:1::10" not in tracked


@ONE_BACKEND
def test_the_forensic_address_alone_still_talks_whatever_policies_say(
    put: Callable[..., Said], free: str
) -> None:
    put(network_policy("web", "Ingress, Egress", ""))
    assert not call("rogue", "web", 80)
    quarantine("web", "--allow", ROGUE, "--allow", "2001:db8:1::12/128")
    assert silent("web")
    assert call("rogue", "web", 80) and call("web", "rogue", 80)
    assert call("rogue", "web", 80, family=6) and call("web", "rogue", 80, family=6)


@ONE_BACKEND
def test_no_policy_opens_it_and_taking_policies_away_neither(
    put: Callable[..., Said], free: str
) -> None:
    """Before, beside and after an apply; remove refuses until it is told what is meant."""
    put(API_FROM_WEB)
    quarantine("web")
    assert silent("web")
    put(OPENS)
    assert silent("web") and host("verify").code == 0
    said = host("remove", "--json")
    assert (said.code, said.json["error"]["code"]) == (1, "quarantined")
    assert host("remove", "--keep-quarantine").code == 0
    assert silent("web") and call("rogue", "api", 80)
    assert host("verify").code == 0
    assert verb("release", "web").code == 0
    assert call("api", "web", 80)


@ONE_BACKEND
def test_a_roll_back_releases_nobody(put: Callable[..., Said], free: str) -> None:
    put(API_FROM_WEB, more=("--confirm", "1"))
    quarantine("web")
    end = time.monotonic() + 30
    while list(Path("/run/netwatch").glob("enforce.*.pending")) and time.monotonic() < end:
        time.sleep(0.1)
    assert silent("web")
    assert call("rogue", "api", 80)


def test_release_and_removal_leave_the_host_as_it_was(free: str) -> None:
    """The last release takes everything along, and so does remove --release-all."""
    inside(f"iptables-{free}-save")
    before = left(free)
    quarantine("web", "--allow", ROGUE)
    quarantine("api")
    assert verb("release", "web").code == 0
    assert call("rogue", "web", 80) and not call("rogue", "api", 80)
    assert verb("release", "shop/api").code == 0
    assert left(free) == before
    quarantine("web")
    assert host("remove", "--release-all").code == 0
    assert left(free) == before
    assert not [p for p in Path("/run/netwatch").iterdir() if p.name.startswith("quarantine")]


@ONE_BACKEND
def test_another_address_is_no_way_out(free: str) -> None:
    """The agent's next look finds the new address; the port is closed to forged ones before."""
    quarantine("web")
    address = ("lab", "exec", "web", "--", "ip", "address")
    run_netwatch(*address, "add", "198.18.1.77/24", "dev", "eth0")
    try:
        assert not ping("web", API, "198.18.1.77")
        assert watch("198.18.1.77") == "None shop/web"
        assert "198.18.1.77" in inside("ipset", "save", "nw-quarantine4")
        assert not ping("web", API, "198.18.1.77")
    finally:
        run_netwatch(*address, "del", "198.18.1.77/24", "dev", "eth0")


@ONE_BACKEND
def test_time_ends_it_when_the_agent_looks(free: str) -> None:
    before = left(free)
    quarantine("web", "--for", "2s")
    assert not call("api", "web", 80)
    time.sleep(2)  # its whole time
    assert watch() == "None"
    assert call("api", "web", 80)
    assert left(free) == before


def test_the_agent_mends_it(free: str) -> None:
    quarantine("web")
    inside(f"iptables-{free}", "-F")
    assert not call("api", "web", 80)  # the bridge holds it too
    inside("nft", "delete", "table", "bridge", "netwatch")
    assert call("api", "web", 80)
    assert watch() == "None shop/web"
    assert not call("api", "web", 80)


@ONE_BACKEND
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(("nobody",), "not-found", id="no such workload"),
        pytest.param(("web", "--allow", "192.0.2.x"), "error", id="no address"),
        pytest.param(("web", "--allow", "0.0.0.0/0"), "error", id="everybody"),
        pytest.param(("web", "--for", "soon"), "usage", id="no duration"),
        pytest.param(('web"; -j ACCEPT',), "not-found", id="a hostile name"),
    ],
)
def test_what_is_refused_changes_nothing(free: str, arguments: tuple[str, ...], code: str) -> None:
    before = left(free)
    said = verb("quarantine", *arguments, "--json")
    assert said.code in (1, 2)
    assert said.json["error"]["code"] == code
    assert left(free) == before

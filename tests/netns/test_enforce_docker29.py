"""Beside Docker 29's own nftables tables (a fixture: see `docker29`), where DOCKER-USER is not.

Two firewalls judge each packet, and either may stop it. Each is left alone by the other.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.netns import docker29
from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.docker29 import Bridge, Port
from tests.netns.small_shop import API_FROM_WEB, HOST, LISTEN
from tests.netns.small_shop import LAB as ONE_HOST

pytestmark = pytest.mark.netns

LAB = ONE_HOST.replace("hosts: [a]", "hosts: [a, b]") + (
    f"  - {{name: far, host: b, namespace: lab, labels: {{app: far}}, listen: {LISTEN},\n"
    '     addresses: [198.18.2.10, "2001:db8:2::10"]}\n'
)
NET = Bridge("br0", {4: "198.18.1.0/24", 6: "2001:db8:1::/64"})
MORE = Bridge("br-more", {4: "198.18.9.0/24", 6: "2001:db8:9::/64"})
# api is published, but may be called by web only; rogue is open to everybody
PORTS = (
    Port("br0", 8081, "198.18.1.11", 80),
    Port("br0", 8082, "198.18.1.12", 80),
    Port("br0", 8081, "2001:db8:1::11", 80),
    Port("br0", 8082, "2001:db8:1::12", 80),
)


def at(name: str, *command: str, feed: str | None = None) -> str:
    """A command inside a namespace; its output."""
    done = subprocess.run(
        ["ip", "netns", "exec", name, *command],
        input=feed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def host(*arguments: str) -> Said:
    program = (sys.executable, "-m", "netwatch", "host")
    return run_in("a", *program, *arguments)


def docker_starts(*bridges: Bridge) -> None:
    """It writes both tables anew."""
    text = "".join(docker29.table(family, bridges, PORTS) for family in (4, 6))
    at(HOST, "nft", "-f", "-", feed=text)


def dockers() -> str:
    """Both of its tables, counters aside."""
    listed = (at(HOST, "nft", "list", "table", word, docker29.TABLE) for word in ("ip", "ip6"))
    return re.sub(r"packets \d+ bytes \d+", "", "".join(listed))


def ours(backend: str) -> list[str]:
    """Our rules of both families and the bridges' table."""
    saved = at(HOST, f"iptables-{backend}-save") + at(HOST, f"ip6tables-{backend}-save")
    return [line for line in saved.splitlines() if "NW-" in line and "Warning" not in line] + [
        at(HOST, "ipset", "save")
    ]


CALLS = {
    "listed": ("web", "198.18.1.11", 80, True),
    "listed, IPv6": ("web", "2001:db8:1::11", 80, True),
    "not listed": ("rogue", "198.18.1.11", 80, False),
    "not listed, IPv6": ("rogue", "2001:db8:1::11", 80, False),
    "nobody governs it": ("api", "198.18.1.12", 81, True),
    "published and open": ("far", "{a}", 8082, True),
    "published and ours to refuse": ("far", "{a}", 8081, False),
    "not published: Docker's to drop": ("far", "198.18.1.10", 80, False),
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The lab with Docker's tables on its host a, whose address on the underlay this is."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB)
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    found = re.search(r"inet ([0-9.]+)/", at(HOST, "ip", "-4", "address", "show", "eth0"))
    assert found
    yield found[1]
    assert run_netwatch("lab", "down").code == 0


@pytest.fixture
def through(address: str) -> Callable[[], dict[str, bool]]:
    """Which of the calls get through."""

    def look() -> dict[str, bool]:
        def call(name: str) -> bool:
            source, target, port, _ = CALLS[name]
            arguments = (source, target.format(a=address), str(port), "--timeout", "1")
            return run_netwatch("lab", "connect", *arguments).code == 0

        with ThreadPoolExecutor(4) as pool:
            return dict(zip(CALLS, pool.map(call, CALLS), strict=True))

    return look


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_each_judges_and_neither_touches_the_other(
    through: Callable[[], dict[str, bool]], tmp_path: Path, backend: str
) -> None:
    """Before, governed, after Docker made a network and began anew, and when we are gone."""
    wanted = {name: open_ for name, (*_, open_) in CALLS.items()}
    without_us = wanted | dict.fromkeys(
        ("not listed", "not listed, IPv6", "published and ours to refuse"), True
    )
    file = tmp_path / "policies.yaml"
    file.write_text(API_FROM_WEB)
    docker_starts(NET)
    before = dockers()
    assert through() == without_us

    assert host("apply", "--policies", str(file), "--backend", backend).code == 0
    assert through() == wanted
    first = at(HOST, f"iptables-{backend}", "-S", "FORWARD").splitlines()[1]
    assert first.endswith("-j NW-FWD"), "there is no DOCKER-USER: ours is the first of FORWARD"
    assert dockers() == before

    mine = ours(backend)
    for family in (4, 6):
        at(HOST, "nft", "-f", "-", feed=docker29.joins(family, MORE))
    assert "filter-forward-in__br-more" in dockers()
    assert ours(backend) == mine
    docker_starts(NET)
    assert (ours(backend), dockers()) == (mine, before)
    assert host("verify").code == 0
    assert through() == wanted

    assert host("remove").code == 0
    assert dockers() == before
    assert through() == without_us

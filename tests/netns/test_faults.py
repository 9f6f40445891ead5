"""What befalls enforcement on a running host: each fault is mended in time, and told of."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netwatch.discover.lab import find_lab
from netwatch.enforce import host as enforced
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.errors import NetwatchError
from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.running import Up
from tests.netns.small_shop import API_FROM_WEB, HOST, LAB
from tests.netns.test_enforce import call

pytestmark = pytest.mark.netns

BY_EVENT_S, BY_POLL_S = 1.0, 6.0  # what is promised
SLACK = 3
NAMESPACE = path_of_name(HOST)


def on_host(*command: str) -> str:
    """A command on the lab host, which succeeds; its output."""
    done = subprocess.run(
        ["ip", "netns", "exec", HOST, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def host(*arguments: str, **environment: str) -> Said:
    """`netwatch …` on the lab host."""
    program = (sys.executable, "-m", "netwatch")
    return run_in("a", *program, *arguments, **environment)


def differences() -> tuple[str, ...]:
    """What is not as the applied documents want it, in this process: a look costs 30 ms."""
    source = find_lab(NAMESPACE)
    assert source is not None
    source.start(lambda: None)
    try:
        seen = source.snapshot()
        return inside(NAMESPACE, lambda: enforced.verify(seen, now=time.time_ns()))
    except NetwatchError as error:  # it is being mended right now
        return (str(error),)
    finally:
        source.close()


@dataclass
class Watched:
    """A lab host with a document in force, and `netwatch up` that watches it."""

    backend: str
    running: Up

    def state(self) -> dict[str, Any]:
        (found,) = self.running.get("hosts")["hosts"]
        return dict(found["enforcement"])

    def inflict(self, *commands: str) -> None:
        for command in commands:
            on_host("sh", "-ec", command.format(b=self.backend))

    def mended_after(self) -> float:
        """Seconds from the fault until all is as it should be."""
        began = time.monotonic()
        while differences():
            assert time.monotonic() - began < 2 * SLACK * BY_POLL_S, differences()
            time.sleep(0.02)
        return time.monotonic() - began

    def wait(self, fact: Callable[[], bool], what: str) -> None:
        self.running.wait(fact, what)


@pytest.fixture(scope="module", params=["nft", "legacy"])
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "lab.yaml").write_text(LAB)
    (folder / "policy.yaml").write_text(API_FROM_WEB)
    assert run_netwatch("lab", "up", str(folder / "lab.yaml")).code == 0
    told = ("--policies", str(folder / "policy.yaml"), "--backend", request.param)
    said = host("host", "apply", *told)
    assert said.code == 0, said.err
    running = Up(folder / "state", NETWATCH_CANARY="0")
    try:
        running.ready()
        found = Watched(request.param, running)
        found.wait(lambda: found.state()["enforced"] != [], "it knows what is applied")
        yield found
    finally:
        running.close()
        host("host", "remove", "--release-all")
        assert run_netwatch("lab", "down").code == 0


def test_what_others_change_is_mended_in_time_and_told_with_its_window(watched: Watched) -> None:
    """F11: each writer's change, by event or by the next look; the alert names what differed."""
    b = watched.backend
    faults = {
        "a rule in our chain": ("iptables-{b} -I NW-NEW 1 -j RETURN",),
        "an ACCEPT before ours": ("iptables-{b} -I FORWARD 1 -j ACCEPT",),
        "flushed and deleted": ("ip6tables-{b} -F; ip6tables-{b} -X",),
    }
    if b == "nft":
        faults["flushed"] = ("iptables-{b} -F",)
        faults["nft flush ruleset"] = ("nft flush ruleset",)
        faults["sets and all"] = ("nft flush ruleset; ipset destroy",)
        faults["our table of bridges"] = ("nft delete table bridge netwatch",)
        # The flood of events before it had been taken one by one: those of this one were lost.
        for number in range(10):
            faults[f"everything, and soon our table: {number}"] = ("nft flush ruleset",)
            faults[f"our table after a flood: {number}"] = faults["our table of bridges"]
        for fault, commands in faults.items():
            watched.inflict(*commands)
            assert watched.mended_after() < BY_EVENT_S * SLACK, fault
    else:
        watched.inflict(*(command for commands in faults.values() for command in commands))
        assert watched.mended_after() < BY_POLL_S * SLACK
    assert not call("rogue", "api", 80)
    watched.inflict(
        "ipset flush nw-iso-in4; ipset add nw-edge4 198.18.1.12,tcp:80,198.18.1.11",
        "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables",
    )
    assert watched.mended_after() < BY_POLL_S * SLACK
    assert not call("rogue", "api", 80) and call("web", "api", 80)

    def told() -> str:
        return str(watched.state()["repairs"])

    watched.wait(lambda: "bridge-nf-call-iptables is 0" in told(), "the switch is in a repair")
    assert "nw-iso-in4 lacks 1 members" in told() and "nw-edge4 lacks 0" in told()
    for repair in watched.state()["repairs"]:
        assert repair["differences"]
        assert 0 <= repair["open_ms_at_most"] < SLACK * BY_POLL_S * 1000
    if b == "nft":
        assert any(
            "iptables" in n or "nft" in n for r in watched.state()["repairs"] for n in r["by"]
        )

    def alerts() -> list[dict[str, Any]]:
        found = watched.running.get("alerts")["alerts"]
        return [alert for alert in found if alert["detector"] == "rules-changed"]

    watched.wait(lambda: [alert["host"] for alert in alerts()] == ["a"], "one alert for the host")
    assert alerts()[0]["evidence"][0]["differences"]


def test_what_runs_out_by_itself_was_changed_by_nobody(watched: Watched) -> None:
    """Quarantine that ends in time, and an apply by hand: the rules change, nobody is accused."""
    before = watched.state()["repairs"]
    assert host("quarantine", "rogue", "--for", "2s").code == 0
    watched.wait(lambda: watched.state()["quarantined"] == ["lab/rogue"], "it is quarantined")
    watched.wait(lambda: watched.state()["quarantined"] == [], "its time is over")
    watched.wait(lambda: differences() == (), "all is as it should be")
    assert watched.state()["repairs"] == before


@pytest.mark.parametrize("watched", ["legacy"], indirect=True)
def test_a_lock_that_is_held_is_told_and_waited_for(watched: Watched, tmp_path: Path) -> None:
    """F14: the other rules stay, the host's problem says why, and all is mended once it can be.

    iptables-nft takes no lock.
    """
    hold = (
        "import fcntl, sys; f = open('/run/xtables.lock', 'a'); fcntl.flock(f, 2);"
        "print(1, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline()
        watched.inflict(f"XTABLES_LOCKFILE={tmp_path}/other iptables-legacy -D INPUT 1")
        watched.wait(lambda: "lock" in str(watched.state()["problem"]), "the problem is told")
        assert call("web", "api", 80) and not call("rogue", "api", 80)
        holder.kill()
    watched.wait(lambda: watched.state()["problem"] is None, "no problem is left")
    assert differences() == ()

"""Denials heard where they happen: on a lab host by hand, and by its agent up to an alert."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.netns.conftest import Said, run_in
from tests.netns.running import Up
from tests.netns.test_enforce import (
    API_FROM_WEB,
    backend,
    estate,
    inside,
    network_policy,
    put,
)

pytestmark = pytest.mark.netns
__all__ = ["backend", "estate", "put"]  # fixtures

API = "198.18.1.11"
# Twenty datagrams a second: rules log 20 of one kind at once, then ten a second.
KNOCK = """
import socket, sys, time
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    try:
        link.sendto(b"x", (sys.argv[1], 81))
    except OSError:
        pass  # told that it is prohibited
    time.sleep(float(sys.argv[3]))
"""


def knock(workload: str, times: int, *, pace_s: float = 0.05) -> None:
    """Datagrams from a workload to port 81 of api."""
    said = run_in(workload, sys.executable, "-c", KNOCK, API, str(times), str(pace_s))
    assert said.code == 0, said.err


@contextmanager
def heard(seconds: int) -> Iterator[list[dict[str, Any]]]:
    """What `netwatch host denials --json` prints so long, from when it listens; then it ends."""
    program = (sys.executable, "-m", "netwatch", "host", "denials", "--json")
    found: list[dict[str, Any]] = []
    with subprocess.Popen(
        ["ip", "netns", "exec", "nwh-a", *program, "--seconds", str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        end = time.monotonic() + 20
        while not inside("cat", "/proc/net/netfilter/nfnetlink_log"):
            assert time.monotonic() < end, "it does not listen"
        yield found
        out, complaints = child.communicate(timeout=60)
        assert child.returncode == 0, complaints
        found += [json.loads(line) for line in out.splitlines()]


def about(found: list[dict[str, Any]], source: str) -> dict[str, Any]:
    """The first denial of this source, its counts added up."""
    mine = [each for each in found if each.get("source") == source]
    assert mine, found
    return mine[0] | {"count": sum(each["count"] for each in mine)}


@pytest.mark.parametrize("mode", ["enforce", "stage"])
def test_a_denial_is_told_with_its_document(put: Callable[..., Said], mode: str) -> None:
    """Workload pair, port, kind, and the line of the document; on nft and on legacy."""
    put(network_policy("api", "Ingress", "ingress: []", mode=mode))
    with heard(3) as found:
        knock("rogue", 30)
    told = about(found, "a/lab/rogue")
    assert (told["destination"], told["protocol"], told["port"]) == ("a/shop/api", "udp", 81)
    assert told["kind"] == {"enforce": "denied", "stage": "would-deny"}[mode]
    assert told["document"] == "NetworkPolicy shop/p-api"
    assert told["file"].endswith(".yaml") and told["line"] >= 1
    assert told["count"] >= 20
    assert found[-1]["losses"] == {"not_heard": 0, "over_limit": 0}
    assert found[-1]["totals"][told["kind"]] == 30  # the rules' counters miss none


@pytest.mark.parametrize("backend", ["nft"], indirect=True)
def test_a_burst_becomes_an_alert_that_names_the_document(
    put: Callable[..., Said], up: Callable[..., Up]
) -> None:
    """From the kernel's log through the agent's report to the controller's alert."""
    put(API_FROM_WEB)
    running = up()
    running.ready()

    def bursts() -> list[dict[str, Any]]:
        return [a for a in running.get("alerts")["alerts"] if a["detector"] == "denied-burst"]

    def knocked_until_told() -> bool:
        knock("rogue", 20)  # the kernel's log takes 10 a second of one kind
        return bool(bursts())

    running.wait(knocked_until_told, "no alert", deadline_s=90)
    (alert,) = bursts()
    assert alert["workloads"] == ["a/lab/rogue", "a/shop/api"]
    assert alert["evidence"][0]["document"] == "NetworkPolicy shop/p-api"
    assert alert["evidence"][0]["line"] >= 1
    said = run_in("a", sys.executable, "-m", "netwatch", *("host", "denials"))
    assert said.code == 1 and "is an agent running here?" in said.err
    assert "nw-edge4" in inside("ipset", "list", "-n")

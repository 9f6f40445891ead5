"""`netwatch capture` of real containers: bridged, on macvlan, of the host, and gone meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from private_dockerd import Engine

pytestmark = pytest.mark.docker

CALLS = 9


def netwatch(
    engine: Engine, state: Path, *arguments: str, **environment: str
) -> subprocess.Popen[str]:
    """Start `netwatch …` with this dockerd."""
    return subprocess.Popen(
        [sys.executable, "-m", "netwatch", *arguments],
        env=os.environ
        | {
            "NETWATCH_DOCKER_SOCKET": engine.socket,
            "NETWATCH_PODMAN_SOCKET": "/nowhere",
            "NETWATCH_STATE": str(state),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def capturing(
    engine: Engine, state: Path, name: str, **environment: str
) -> tuple[subprocess.Popen[str], list[str]]:
    """A capture that runs, and what it said before."""
    asked = ("capture", name, "-w", str(state / "f.pcap"), "--seconds=30", "--json")
    running = netwatch(engine, state, *asked, **environment)
    assert running.stderr is not None
    said = []
    for line in running.stderr:
        said.append(line)
        if line.startswith("capturing "):
            return running, said
    pytest.fail(f"it ended: {said}")


def ended(running: subprocess.Popen[str], *, interrupt: bool = True) -> Any:
    if interrupt:
        running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 0, err
    return json.loads(out)


def servers(engine: Engine, state: Path) -> dict[tuple[str, int], int]:
    """How many TCP flows of the file go to each server."""
    done = netwatch(engine, state, "read", str(state / "f.pcap"), "--json")
    out, err = done.communicate(timeout=20)
    assert (done.returncode, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    ends = [flow["server"] for flow in found if flow["protocol"] == "tcp"]
    return Counter((end["address"], end["port"]) for end in ends)


def call(engine: Engine, name: str, address: str) -> None:
    """CALLS connections, which nobody has to accept."""
    script = f"for i in $(seq {CALLS}); do nc -w 1 {address} 8000 </dev/null; done; true"
    script = script.replace(f"$(seq {CALLS})", " ".join(map(str, range(CALLS))))
    code, said = engine.sh(name, script)
    assert code == 0, said


def test_a_bridged_container_is_captured_on_the_host(engine: Engine, tmp_path: Path) -> None:
    """Its own conversations and not its neighbour's, on its link on the host."""
    for name in ("web", "db", "other"):
        engine.run(name)
    running, said = capturing(engine, tmp_path, "web")
    assert " on veth" in said[-1]
    call(engine, "web", engine.address("db"))
    call(engine, "other", engine.address("db"))
    answer = ended(running)
    assert (answer["workload"].split("/")[1:], answer["dropped"]) == (["default", "web"], 0)
    assert servers(engine, tmp_path) == {(engine.address("db"), 8000): CALLS}


def test_a_container_on_macvlan_is_captured_inside(
    engine: Engine, macvlan: str, tmp_path: Path
) -> None:
    """It has no link on the host, so its own end is looked at."""
    for name in ("web", "db"):
        engine.run(name, network=macvlan)
    running, said = capturing(engine, tmp_path, "web")
    assert " on eth0 " in said[-1]
    call(engine, "web", engine.address("db", macvlan))
    assert ended(running)["packets"] >= 2 * CALLS
    assert servers(engine, tmp_path) == {(engine.address("db", macvlan), 8000): CALLS}


def test_a_container_of_the_host_s_network_is_the_host(engine: Engine, tmp_path: Path) -> None:
    """Its packets can not be told from the host's: it says so, and captures the uplinks."""
    engine.run("web", network="host")
    engine.run("db")
    running, said = capturing(engine, tmp_path, "web", NETWATCH_UPLINKS="docker0")
    assert "default/web is the host on the wire" in said[0]
    for _ in range(CALLS):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((engine.address("db"), 8000), 5)
    ended(running)
    assert servers(engine, tmp_path) == {(engine.address("db"), 8000): CALLS}


def test_a_host_without_uplinks_has_nothing_to_capture_for_it(
    engine: Engine, tmp_path: Path
) -> None:
    engine.run("web", network="host")
    running = netwatch(engine, tmp_path, "capture", "web", "-w", str(tmp_path / "f"))
    _, err = running.communicate(timeout=20)
    assert (running.returncode, "no Ethernet link to capture" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_container_that_ends_ends_its_capture(engine: Engine, tmp_path: Path) -> None:
    """With everything it said until then in the file."""
    for name in ("web", "db"):
        engine.run(name)
    address = engine.address("db")
    running, _ = capturing(engine, tmp_path, "web")
    call(engine, "web", address)
    engine.client.kill("web")
    assert ended(running, interrupt=False)["ended"] == "gone"
    assert servers(engine, tmp_path) == {(address, 8000): CALLS}

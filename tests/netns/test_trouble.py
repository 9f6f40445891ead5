"""What `netwatch up` meets when it starts: a port that is taken, a runtime that is not there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.conftest import Said, assert_one_error, run_netwatch
from tests.netns.running import Up

pytestmark = pytest.mark.netns

NO_DOCKER = {"NETWATCH_DOCKER_SOCKET": "/nowhere/docker.sock"}
LAB = """
hosts: [a]
workloads:
- {name: v, host: a}
- {name: w, host: a, listen: [{port: 80, serve: echo}]}
"""


def test_a_port_that_is_taken_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run_netwatch(
            "up", "--json", "--listen", f"127.0.0.1:{port}", "--state", str(state), **NO_DOCKER
        )
    assert_one_error(said, 1, f"port {port}", "--listen")
    assert not state.exists()


def problem_of(running: Up) -> str:
    (host,) = running.get("hosts")["hosts"]
    return str(host["capture"]["problem"])


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[str]:
    """A socket on which somebody listens and never says a word."""
    path = str(tmp_path / "hung.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        yield path


def test_without_a_runtime_it_runs_and_says_why_there_is_nothing(up: Callable[..., Up]) -> None:
    """On stderr, and as the host's problem."""
    running = up(**NO_DOCKER)
    running.ready()
    for told in (running.complaints(), problem_of(running)):
        assert "no Docker at /nowhere/docker.sock" in told
        assert "NETWATCH_DOCKER_SOCKET" in told
    said = run_netwatch("hosts", NETWATCH_STATE=str(running.state))
    assert (said.code, "no Docker at" in said.out) == (0, True)


def test_a_runtime_that_hangs_does_not_hang_us(up: Callable[..., Up], hung: str) -> None:
    """It runs, names the socket, and ends when it is told to."""
    running = up(NETWATCH_DOCKER_SOCKET=hung)
    running.ready()
    assert f"Docker does not answer at {hung}: no answer" in problem_of(running)
    assert hung in running.complaints()
    said = run_netwatch("doctor", "--json", NETWATCH_DOCKER_SOCKET=hung)
    (docker,) = [each for each in said.json["checks"] if each["name"] == "docker"]
    assert (docker["ok"], "no answer" in docker["found"]) == (False, True)
    assert docker["fix"] == "systemctl restart docker"


def test_without_tcx_clsact_sees_the_same_and_says_so(
    lab: Callable[[str], Said], up: Callable[..., Up]
) -> None:
    """As on a kernel before 6.6: every connect is counted, and hosts name the method."""
    lab(LAB)
    running = up("--capture", "clsact")
    running.ready()
    (host,) = running.get("hosts")["hosts"]
    assert (host["capture"]["method"], host["capture"]["problem"]) == ("clsact", None)
    for _ in range(3):
        assert run_netwatch("lab", "connect", "v", "w", "80").code == 0

    def connections() -> list[int]:
        return [edge["connections"] for edge in running.get("edges")["edges"]]

    running.wait(lambda: connections() == [3], "three connects are one edge")

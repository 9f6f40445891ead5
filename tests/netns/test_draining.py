"""Live sessions that a tightened policy forbids: cut, or left to end, as the operator chose."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import pytest

from netwatch.kernel.namespaces import inside, path_of_name
from tests.netns.conftest import Said, run_in
from tests.netns.test_enforce import (
    API_FROM_WEB,
    backend,
    call,
    conversation,
    estate,
    host,
    network_policy,
    put,
)

pytestmark = pytest.mark.netns
__all__ = ["backend", "estate", "put"]  # fixtures

API = {4: "198.18.1.11", 6: "2001:db8:1::11"}
WEB = {4: "198.18.1.10", 6: "2001:db8:1::10"}
SEALED = network_policy("api", "Ingress", "ingress: []")
# A round of an agent that meets a change of labels: all that is forbidden and not spared is cut.
ROUND = """
import time
from dataclasses import replace
from netwatch.agent.watchman import Watchman
from netwatch.discover.sources import find_source
from netwatch.model.workload import Label
from netwatch.settings import load
source = find_source(load())
source.start(lambda: None)
seen, watchman = source.snapshot(), Watchman()
watchman(seen, time.time_ns())
other = tuple(
    replace(w, labels=(*w.labels, Label("app", "web", "lab"))) if w.name == "rogue" else w
    for w in seen.workloads
)
watchman(replace(seen, workloads=other), time.time_ns())
watchman(seen, time.time_ns() + 10**10)
"""


def agent_looks() -> None:
    said = run_in("a", sys.executable, "-c", ROUND)
    assert said.code == 0, said.err


@pytest.mark.parametrize("family", [4, 6])
def test_a_session_is_left_to_end_by_itself_if_the_operator_says_so(
    put: Callable[..., Said], family: int
) -> None:
    """No such one begins any more; agents leave it alone; the next apply that cuts ends it."""
    put(API_FROM_WEB)
    with conversation("web", API[family]) as session:
        answer = put(SEALED, more=("--sessions", "drain")).json
        named = f"{WEB[family]} -> {API[family]} tcp/80"
        assert (named in answer["sessions_left"], answer["sessions_cut"]) == (True, [])
        assert not call("web", "api", 80, family=family)
        agent_looks()
        assert session.alive
        assert host("verify").code == 0
        again = put(SEALED, more=("--sessions", "cut")).json
        assert named in again["sessions_cut"]
        assert not session.alive


def test_also_sessions_from_before_the_first_activation(put: Callable[..., Said]) -> None:
    """conntrack had met none of them."""
    with conversation("web", API[4]) as session:
        put(SEALED, more=("--sessions", "drain"))
        assert session.alive and not call("web", "api", 80)


@pytest.mark.parametrize("backend", ["nft"], indirect=True)
def test_quarantine_ends_what_was_left(put: Callable[..., Said]) -> None:
    """Whatever an operator chose before."""
    with conversation("web", API[4]) as session:
        put(SEALED, more=("--sessions", "drain"))
        said = run_in("a", sys.executable, "-m", "netwatch", "quarantine", "web")
        assert said.code == 0, said.err
        assert not session.alive
        assert host("remove", "--release-all").code == 0


@pytest.mark.parametrize("backend", ["nft"], indirect=True)
def test_who_is_cut_learns_of_it_at_once(put: Callable[..., Said]) -> None:
    """A program must not wait for a timeout: its socket ends, on both sides."""
    put(API_FROM_WEB)
    with inside(path_of_name("nw-web"), socket.socket) as client:
        client.settimeout(3)
        client.connect((API[4], 80))
        put(SEALED)
        with pytest.raises(ConnectionError):
            client.recv(1)

"""An agent that is away (F2), and policies that cut off who could take them back (F17)."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from netwatch.agent.handout import LOST, Handout
from netwatch.controller.service import Controller
from netwatch.enforce import confirm, host, quarantine
from netwatch.kernel.commands import check
from netwatch.kernel.connect import connect
from netwatch.kernel.namespaces import enter, inside, path_of_name
from netwatch.model.finding import Alert
from netwatch.model.policy_version import Document, Wanted, digest_of
from netwatch.model.report import Capture
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import SECOND
from netwatch.model.workload import Workload
from tests.netns.running import Up
from tests.netns.small_shop import API_FROM_WEB, HOST, opened
from tests.unit.controller.samples import Clock, controller, flow, report

pytestmark = pytest.mark.netns

NAMESPACE, BEYOND = path_of_name(HOST), path_of_name("nwx-underlay")
API, HOST_ADDRESS, FAR = "198.18.1.11", "192.0.2.1", "192.0.2.254"
STEP_S = 10  # the controller looks more often than that
WRITTEN_EVERY = 30 * SECOND  # a span that ended is known as it was written last
SLACK = 3
# Nobody may talk to anybody: by labels, by networks, by the tier that goes before all.
WORST = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: nobody, namespace: shop}
spec: {governs: {}, scope: all, mode: enforce, ingress: isolated, egress: isolated}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: nobody}
spec:
  tier: Admin
  priority: 0
  subject: {namespaces: {}}
  ingress:
    - {name: in, action: Deny, from: [{namespaces: {}}]}
  egress:
    - {name: out, action: Deny, to: [{namespaces: {}}]}
    - {name: far, action: Deny, to: [{networks: [0.0.0.0/0, "::/0"]}]}
"""


@dataclass
class Estate:
    snapshot: Snapshot
    folder: Path

    def file(self, text: str) -> Path:
        file = self.folder / "policy.yaml"
        file.write_text(text)
        return file

    def apply(self, text: str) -> None:
        file, now = self.file(text), time.time_ns()
        inside(NAMESPACE, lambda: host.apply([file], self.snapshot, backend="nft", now=now))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("fleet")
    with opened(folder) as snapshot:
        yield Estate(snapshot, folder)


@pytest.fixture
def estate(lab: Estate) -> Iterator[Estate]:
    yield lab
    inside(NAMESPACE, lambda: quarantine.remove(release_all=True))
    inside(NAMESPACE, confirm.drop)


def reaches(source: str, address: str = API, port: int = 80, *, protocol: str = "tcp") -> bool:
    """From a workload, or from the host."""
    place = NAMESPACE if source == "host" else path_of_name(source)
    found = connect(place, address, port, protocol=protocol, timeout_s=0.4).result
    return found == "open"


def test_an_agent_that_is_away_for_ten_minutes_is_missed_and_nothing_opens(
    estate: Estate, tmp_path: Path
) -> None:
    """F2: killed, it leaves its rules, and none of them ends by itself.

    The controller calls it silent within 90 s, with one alert that is resolved when it is back;
    the history says that nobody looked, not that nobody talked.
    """
    estate.apply(API_FROM_WEB)
    running = Up(tmp_path / "state")
    running.ready()
    before = kernel()
    running.process.kill()
    running.process.communicate(timeout=20)
    assert kernel() == before
    assert not re.search(r"timeout|-m time|expires", " ".join(before))
    assert reaches("nw-web") and not reaches("nw-rogue")

    clock = Clock()
    fleet = controller(tmp_path / "controller", clock)
    try:
        hears(fleet, clock, range(20))
        gone, missed_after = clock.now, None
        for second in range(STEP_S, 600, STEP_S):
            clock.now = gone + second * SECOND
            fleet.tick(clock.now)
            if missed_after is None and fleet.hosts()[0].silent and silent(fleet, state="open"):
                missed_after = second
        assert missed_after is not None and missed_after <= 90
        assert [alert.finding.host for alert in silent(fleet)] == ["a"]
        back = clock.now
        hears(fleet, clock, range(20, 25))
        assert not fleet.hosts()[0].silent and not silent(fleet, state="open")
        assert len(silent(fleet)) == 1
        (gap,) = fleet.coverage.gaps(gone - 60 * SECOND, clock.now)
        assert gap.host == "a"
        assert gone - WRITTEN_EVERY <= gap.since <= gone and back <= gap.until < back + 2 * SECOND
    finally:
        fleet.close()


def hears(fleet: Controller, clock: Clock, seconds: range) -> None:
    """One report a second of host a, with a flow in each."""
    for number in seconds:
        clock.now += SECOND
        seen = flow(sport=40_000 + number, first_seen=clock.now, last_seen=clock.now)
        told = report("a", seen, sequence=number, now=clock.now, capture=Capture("tcx"))
        fleet.ingest(told)
    fleet.tick(clock.now)


def silent(fleet: Controller, *, state: str | None = None) -> list[Alert]:
    return [a for a in fleet.alerts(state=state) if a.finding.detector == "silent-agent"]


def kernel() -> tuple[str, ...]:
    """Rules and sets of the lab host, without counters."""
    commands = (["iptables-nft-save"], ["ip6tables-nft-save"], ["ipset", "save", "-sorted"])
    texts = [inside(NAMESPACE, lambda c=c: check(c)) for c in commands]
    lines = (line for text in texts for line in text.splitlines() if not line.startswith("#"))
    return tuple(re.sub(r"\[\d+:\d+\]|initval \S+", "", line) for line in lines)


def cut_off(workload: Workload, snapshot: Snapshot) -> None:
    quarantine.quarantine(workload, snapshot, allow=(), until=None, now=time.time_ns())


@contextmanager
def serving(place: Path, address: str, port: int) -> Iterator[None]:
    """A TCP server in a namespace; its backlog answers."""
    with inside(place, lambda: socket.create_server((address, port), backlog=64)):
        yield


@contextmanager
def answering(place: Path, address: str, port: int) -> Iterator[None]:
    """A UDP server that sends back what comes."""
    link = inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    link.bind((address, port))

    def echo() -> None:
        while (found := link.recvfrom(99))[0]:
            link.sendto(*found)

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as last:
            last.sendto(b"", (address, port))
        thread.join(5)
        link.close()


def test_the_worst_policy_cuts_off_neither_operator_nor_controller(estate: Estate) -> None:
    """F17: SSH into the host, the way to controller and name server, and loopback stay open.

    And they open nothing for the workloads: the host's SSH is not for them, nor one for another.
    """
    with (
        serving(NAMESPACE, "0.0.0.0", 22),
        serving(BEYOND, FAR, 8742),
        answering(BEYOND, FAR, 53),
    ):
        assert reaches("nw-web", HOST_ADDRESS, 22), "else what follows proves nothing"
        estate.apply(WORST)
        for workload in estate.snapshot.workloads:
            inside(NAMESPACE, lambda w=workload: cut_off(w, estate.snapshot))
        found = connect(BEYOND, HOST_ADDRESS, 22, timeout_s=1).result
        assert found == "open", "an operator"
        assert reaches("host", FAR, 8742), "the controller"
        assert reaches("host", FAR, 53, protocol="udp"), "names"
        assert reaches("host", "127.0.0.1", 22), "loopback"
        assert not reaches("nw-web", HOST_ADDRESS, 22)
        assert not reaches("nw-web") and not reaches("nw-web", FAR, 8742)


# The process that would undo it later is left to itself, as an agent leaves it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_controller_that_a_policy_cut_off_gets_the_rules_from_before(
    estate: Estate, tmp_path: Path
) -> None:
    """F17: it is a workload of the host itself; the agent goes back 20 s after it heard it last.

    Time is an argument here, so nobody waits; 60 s is how long the controller waits by default.
    """
    handout, now = Handout(tmp_path, enforce=True), time.time_ns()
    texts = (WORST,)
    wanted = Wanted(1, 1, digest_of(texts), 60.0, (Document("worst.yaml", WORST),))
    handout.take(wanted)
    assert reaches("host")
    inside(NAMESPACE, lambda: handout.settle(estate.snapshot, now))
    assert not reaches("host"), "cut off"
    inside(NAMESPACE, lambda: handout.settle(estate.snapshot, now + LOST))
    assert not reaches("host"), "too early"
    inside(NAMESPACE, lambda: handout.settle(estate.snapshot, now + LOST + SECOND))
    assert reaches("host") and reaches("nw-rogue")
    assert not inside(NAMESPACE, confirm.pending)


def test_what_is_not_confirmed_is_undone_though_everybody_was_killed(estate: Estate) -> None:
    """F17: the process that undoes it is nobody's child any more; 2 s here, 60 by default."""
    estate.apply(API_FROM_WEB)
    worst = estate.folder / "worst.yaml"
    worst.write_text(WORST)
    child = os.fork()
    if not child:
        try:
            enter(NAMESPACE)
            files, now = [worst], time.time_ns()
            confirm.apply(files, estate.snapshot, backend="nft", now=now, seconds=2)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    began = time.monotonic()
    assert not reaches("nw-web")
    while not reaches("nw-web") or inside(NAMESPACE, confirm.pending):
        assert time.monotonic() - began < (2 + 1) * SLACK, "it is not undone"
    assert not reaches("nw-rogue")

"""Open connections when a policy tightens (F20), full tables (F10), floods of news (F9)."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netwatch.agent.watchman import Watchman
from netwatch.capture.conntrack import ConntrackSensor
from netwatch.capture.ebpf import EbpfSensor
from netwatch.enforce import host, upkeep
from netwatch.enforce.survey import survey
from netwatch.kernel.commands import check
from netwatch.kernel.connect import connect
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Label
from tests.netns import crowd
from tests.netns.bridges import lost
from tests.netns.frames import connected
from tests.netns.small_shop import API_FROM_WEB, HOST, network_policy, opened

pytestmark = pytest.mark.netns

NAMESPACE = path_of_name(HOST)
API, API6 = "198.18.1.11", "2001:db8:1::11"
CUT_S, RECOVER_S, SLACK = 2.0, 5.0, 3
FULL_S = 4.0  # where the table has to be read that holds 262,144 entries
SEALED = network_policy("api", "Ingress", "ingress: []")


@dataclass
class Estate:
    """The shop's host, whose rules are written from this process."""

    snapshot: Snapshot
    folder: Path
    backend: str = "nft"

    def apply(self, text: str) -> None:
        file = self.folder / "policy.yaml"
        file.write_text(text)
        known, now = self.snapshot, time.time_ns()
        inside(NAMESPACE, lambda: host.apply([file], known, backend=self.backend, now=now))

    def relabel(self, name: str, value: str) -> None:
        """As an agent sees a container that came back with another label, and looks."""
        workloads = tuple(
            replace(w, labels=(Label("app", value, "lab"),)) if w.name == name else w
            for w in self.snapshot.workloads
        )
        known, now = replace(self.snapshot, workloads=workloads), time.time_ns()
        applied = inside(NAMESPACE, host.applied)
        assert applied is not None
        inside(NAMESPACE, lambda: upkeep.look(applied, known, now=now, last=None))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("sessions")
    with opened(folder) as snapshot:
        yield Estate(snapshot, folder)


@pytest.fixture(params=["nft"])
def estate(lab: Estate, request: pytest.FixtureRequest) -> Iterator[Estate]:
    made = replace(lab, backend=str(request.param))
    made.apply(API_FROM_WEB)
    yield made
    inside(NAMESPACE, host.remove)


@contextmanager
def datagrams(name: str, address: str, port: int) -> Iterator[tuple[int, Callable[[], bool]]]:
    """As `connected`, over UDP: one conversation from one port, which may lose nothing."""
    opened = inside(
        path_of_name(f"nw-{name}"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    )

    def talks() -> bool:
        try:
            opened.send(b"x")
            return opened.recv(9) == b"x"
        except OSError:
            return False

    with opened:
        opened.settimeout(0.5)
        opened.connect((address, port))
        assert talks() and talks()
        yield opened.getsockname()[1], talks


def reaches(source: str, port: int = 80, *, protocol: str = "tcp") -> bool:
    place = path_of_name(f"nw-{source}")
    return connect(place, API, port, protocol=protocol, timeout_s=0.3).result == "open"


@pytest.mark.parametrize(
    ("session", "address", "port"),
    [
        pytest.param(connected, API, 80, id="TCP"),
        pytest.param(connected, API6, 80, id="TCP over IPv6"),
        pytest.param(datagrams, API, 53, id="UDP"),
    ],
)
@pytest.mark.parametrize(
    "tighten",
    [
        pytest.param(lambda estate: estate.apply(SEALED), id="the document"),
        pytest.param(lambda estate: estate.relabel("web", "other"), id="the caller's label"),
    ],
)
def test_what_a_tightened_policy_forbids_is_cut(
    estate: Estate,
    tighten: Callable[[Estate], None],
    session: Callable[..., Iterator[tuple[int, Callable[[], bool]]]],
    address: str,
    port: int,
) -> None:
    """F20: within 2 s of the change; not by its end, but by what gets through."""
    with session("web", address, port) as (_, talks):
        began = time.monotonic()
        tighten(estate)
        assert not talks()
        assert time.monotonic() - began < CUT_S * SLACK
        assert not reaches("web")


@pytest.mark.parametrize("estate", ["legacy"], indirect=True)
def test_with_the_connection_table_full_verdicts_stay(estate: Estate) -> None:
    """F10: who is denied stays denied, and who talks goes on talking.

    A new connection that is allowed can not begin: the kernel drops what it has no entry for,
    before any rule is asked. `doctor` says so, and policies can be changed meanwhile.
    """
    with connected("web", API, 80) as (_, talks), full():
        assert talks()
        assert not reaches("rogue") and not reaches("rogue", 53, protocol="udp")
        assert not reaches("web"), "there is room"
        (check,) = inside(
            NAMESPACE, lambda: [c for c in survey("/nowhere") if c.name == "conntrack"]
        )
        assert not check.ok and "full" in check.found and "nf_conntrack_max" in str(check.fix)
        assert inside(NAMESPACE, lambda: host.verify(estate.snapshot, now=time.time_ns())) == ()
        began = time.monotonic()
        estate.apply(SEALED)
        assert not talks()
        assert time.monotonic() - began < FULL_S * SLACK
    estate.apply(API_FROM_WEB)
    assert reaches("web") and not reaches("rogue")


def knock(ports: range) -> None:
    """A datagram to web from each of these ports of rogue: as many flows."""
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.bind(("198.18.1.12", port))
            link.sendto(b"x", ("198.18.1.10", 9))


@contextmanager
def full() -> Iterator[None]:
    """The host's connection table holds as many as it may, and none that the kernel would drop."""
    inside(NAMESPACE, lambda: crowd.fill(crowd.most() + 1000))
    try:
        yield
    finally:
        inside(NAMESPACE, crowd.empty)


def test_with_the_flow_map_full_each_loss_is_counted_and_verdicts_stay(
    estate: Estate, sent: int = 500
) -> None:
    """F10: observing drops what it has no room for and says how much; no packet is touched."""
    sensor = EbpfSensor("tcx", namespace=NAMESPACE, entries=64, ring_bytes=1 << 16)
    try:
        sensor.watch([i.index for w in estate.snapshot.workloads for i in w.interfaces], [])
        inside(path_of_name("nw-rogue"), lambda: knock(range(20_000, 20_000 + sent)))
        with connected("web", API, 80) as (_, talks):
            assert talks() and not reaches("rogue")
        batch = sensor.read()
        assert lost(batch)["evicted"] >= sent - 64
        assert len(batch.entries) + lost(batch)["evicted"] >= sent
    finally:
        sensor.close()


def test_a_sensor_of_conntrack_survives_more_news_than_it_can_hold(estate: Estate) -> None:
    """F9: with room for a few events a flood of them comes: each overrun is counted, everything
    is read again, and the next connection is seen within 5 s."""
    sensor = ConntrackSensor(namespace=NAMESPACE)
    try:
        sensor._events._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        inside(NAMESPACE, lambda: crowd.fill(20_000))
        batch = sensor.read()
        assert lost(batch)["conntrack-overrun"] and len(batch.entries) >= 20_000
        inside(NAMESPACE, crowd.empty)
        with connected("web", API, 80) as (port, talks):
            began = time.monotonic()
            assert talks()
            while port not in {*batch.entries["low_port"], *batch.entries["high_port"]}:
                assert time.monotonic() - began < RECOVER_S * SLACK
                batch = sensor.read()
    finally:
        sensor.close()


@pytest.mark.parametrize("estate", ["nft", "legacy"], indirect=True)
def test_while_the_runtime_is_silent_rules_are_held(estate: Estate) -> None:
    """F13: who takes them away opens nothing for long, it is told, and the dead stay forgotten."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    silent = replace(
        estate.snapshot,
        problem="Docker does not answer",
        workloads=tuple(
            replace(w, pid=ended.pid) if w.name == "web" else w for w in estate.snapshot.workloads
        ),
    )
    watchman = Watchman()

    def rounds() -> list[int]:
        now, found = time.time_ns(), []
        for seen, later_s in ((estate.snapshot, 0), (silent, 1), (silent, 2)):
            state, _ = watchman(seen, now + later_s * 10**9)
            found.append(len(state.repairs))
            assert state.problem is None
            for program in (f"iptables-{estate.backend}", f"ip6tables-{estate.backend}"):
                check([program, "-F"])
        state, _ = watchman(silent, now + 3 * 10**9)
        return [*found, len(state.repairs)]

    assert inside(NAMESPACE, rounds) == [0, 1, 2, 3]
    assert not reaches("rogue")
    assert not reaches("web"), "the address of who has ended is known"
    here = time.time_ns()
    inside(NAMESPACE, lambda: watchman(estate.snapshot, here + 10 * 10**9))
    assert reaches("web") and not reaches("rogue")

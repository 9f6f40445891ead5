"""Discovery against a real dockerd: what is known, where from, and how early."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from private_dockerd import Engine, eventually

from netwatch.discover.docker import DockerSource
from netwatch.model.workload import Workload

pytestmark = pytest.mark.docker


class Watched:
    """A DockerSource and every snapshot that it announced, with the time of each."""

    def __init__(self, socket: str) -> None:
        self.source = DockerSource(socket, "alpha")
        self.seen: list[tuple[float, tuple[Workload, ...]]] = []

    def start(self) -> None:
        self.source.start(self._changed)

    def _changed(self) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.seen.append((now, self.source.snapshot().workloads))

    def workload(self, name: str) -> Workload | None:
        known = {w.name: w for w in self.source.snapshot().workloads}
        return known.get(name)

    def wait(self, name: str, fact: Callable[[Workload], Any] = bool) -> Workload:
        def found() -> Workload | None:
            workload = self.workload(name)
            return workload if workload and fact(workload) else None

        workload: Workload = eventually(found, what=f"{name} in the snapshot")
        return workload


@pytest.fixture
def watched(engine: Engine) -> Iterator[Watched]:
    watched = Watched(engine.socket)
    watched.start()
    yield watched
    watched.source.close()


def test_a_container_is_known_with_the_source_of_each_fact(
    engine: Engine, watched: Watched
) -> None:
    """Labels and ports say who wrote them; of image, Compose and command line none is mixed up."""
    engine.run(
        "web-1",
        labels={
            "app": "web",
            "tier": "front",
            "com.docker.compose.project": "shop",
            "com.docker.compose.service": "web",
        },
        expose=(81, (5353, "udp"), 80),
        publish={80: ("127.0.0.1", 8080)},
    )
    web = watched.wait("web-1", lambda w: w.pid and w.interfaces)
    assert web.identity == "alpha/shop/web-1"
    assert (web.project, web.service, web.runtime) == ("shop", "web", "docker")
    assert {(label.key, label.value, label.source) for label in web.labels} == {
        ("app", "web", "runtime"),
        ("tier", "front", "runtime"),
        ("org.example.title", "The box", "image"),
        ("com.docker.compose.project", "shop", "compose"),
        ("com.docker.compose.service", "web", "compose"),
    }
    assert {(p.number, p.protocol, p.source) for p in web.ports} == {
        (80, "tcp", "image"),
        (80, "tcp", "published"),
        (53, "udp", "image"),
        (81, "tcp", "compose"),
        (5353, "udp", "compose"),
    }
    door = [(p.host_address, p.host_port, p.port, p.protocol) for p in web.published]
    assert door == [("127.0.0.1", 8080, 80, "tcp")]
    assert web.image == "box"
    assert web.image_digest == engine.client.inspect_image("box")["Id"]
    assert web.addresses == (engine.address("web-1"),)
    assert web.networks == ("bridge",)


def test_two_networks_and_ipv6(engine: Engine, watched: Watched) -> None:
    """Every address of every network is known, each link with its bridge, each network's plan."""
    pool = [{"Subnet": "2001:db8:7::/64"}]
    engine.client.create_network(
        "six", driver="bridge", enable_ipv6=True, ipam={"Driver": "default", "Config": pool}
    )
    engine.run("db", network="six")
    engine.client.connect_container_to_network("db", "bridge")
    db = watched.wait("db", lambda w: len(w.interfaces) == 2)
    assert db.networks == ("bridge", "six")
    assert "2001:db8:7::2" in db.addresses
    assert len(db.addresses) == 3
    snapshot = watched.source.snapshot()
    plan = {network.name: network for network in snapshot.networks}
    bridge_of_six = "br-" + engine.client.inspect_network("six")["Id"][:12]
    assert plan["six"].bridge == bridge_of_six
    assert "2001:db8:7::/64" in plan["six"].subnets
    assert (plan["bridge"].bridge, plan["bridge"].gateways) == ("docker0", ("198.18.0.1",))
    assert {(i.bridge, i.network) for i in db.interfaces} == {
        ("docker0", "bridge"),
        (bridge_of_six, "six"),
    }
    assert "198.18.0.1" in snapshot.addresses
    engine.client.disconnect_container_from_network("db", "six")
    db = watched.wait("db", lambda w: w.networks == ("bridge",))
    assert len(db.addresses) == len(db.interfaces) == 1


def test_the_link_named_is_the_one_that_carries_its_packets(
    engine: Engine, watched: Watched
) -> None:
    """The interface's index is the peer of the container's own eth0."""
    for name in ("one", "two", "three"):
        engine.run(name)
    for name in ("one", "two", "three"):
        known = watched.wait(name, lambda w: w.interfaces)
        _, said = engine.sh(name, "cat /sys/class/net/eth0/iflink")
        assert [i.index for i in known.interfaces] == [int(said)]


def test_host_network_and_shared_network(engine: Engine, watched: Watched) -> None:
    """A container of the host's network is flagged; one inside another's has its addresses."""
    engine.run("on-host", network="host")
    engine.run("owner")
    engine.run("guest", network="container:owner")
    engine.run("lonely", network="none")
    on_host = watched.wait("on-host", lambda w: w.pid)
    assert (on_host.host_network, on_host.addresses) == (True, ())
    guest = watched.wait("guest", lambda w: w.pid and w.interfaces)
    owner = watched.wait("owner")
    assert guest.addresses == owner.addresses != ()
    assert guest.interfaces == owner.interfaces
    names = [w.name for w in watched.source.snapshot().workloads]
    assert names.index("owner") < names.index("guest")
    assert watched.wait("lonely").addresses == ()


def test_identity_survives_another_address_and_a_new_container(
    engine: Engine, watched: Watched
) -> None:
    """Identity is labels: another address, link and container id leave it as it was."""
    engine.run("cache")
    before = watched.wait("cache", lambda w: w.interfaces)
    engine.client.kill("cache")
    eventually(lambda: watched.workload("cache") is None, what="the dead container is gone")
    engine.run("squatter")
    engine.client.start("cache")
    after = watched.wait("cache", lambda w: w.interfaces)
    assert after.identity == before.identity
    assert after.addresses != before.addresses
    assert after.interfaces != before.interfaces
    engine.client.remove_container("cache", force=True)
    engine.run("cache")
    again = watched.wait("cache", lambda w: w.runtime_id != before.runtime_id)
    assert again.identity == before.identity


def test_a_link_is_never_taken_for_that_of_the_container_before(
    engine: Engine, watched: Watched
) -> None:
    """A restart gives the same MAC address and another link."""
    engine.run("cache")
    before = watched.wait("cache", lambda w: w.interfaces)
    engine.client.kill("cache")
    engine.client.start("cache")
    _, said = engine.sh("cache", "cat /sys/class/net/eth0/iflink")
    after = watched.wait("cache", lambda w: [i.index for i in w.interfaces] == [int(said)])
    assert after.addresses == before.addresses
    assert after.interfaces != before.interfaces


def test_rename_is_followed(engine: Engine, watched: Watched) -> None:
    """The name is part of the identity, so a rename shows at once."""
    engine.run("old")
    watched.wait("old")
    engine.client.rename("old", "new")
    assert watched.wait("new").identity == "alpha/default/new"
    assert watched.workload("old") is None


def test_what_runs_already_is_known_when_start_returns(engine: Engine) -> None:
    """The first snapshot is complete: links and process ids too."""
    for number in range(5):
        engine.run(f"app-{number}")
    late = Watched(engine.socket)
    late.start()
    workloads = late.source.snapshot().workloads
    late.source.close()
    assert [w.name for w in workloads] == [f"app-{number}" for number in range(5)]
    assert all(w.pid and w.interfaces and w.addresses for w in workloads)
    assert late.source.snapshot().problem is None


def test_identity_is_ready_before_the_first_instruction(engine: Engine, watched: Watched) -> None:
    """The snapshot has labels, address and link before the container's process runs, 5 of 5."""
    leads = []
    for number in range(5):
        name = f"job-{number}"
        engine.run(name, "cat /proc/uptime", labels={"app": "job"})
        engine.client.wait(name)
        started = float(engine.client.logs(name).split()[0])
        seen = [
            (at, w)
            for at, workloads in watched.seen
            for w in workloads
            if w.name == name and w.addresses and w.label_values()["app"] == "job"
        ]
        known = seen[0][0]
        linked = next(at for at, w in seen if w.interfaces)
        leads.append((round(1000 * (started - known)), round(1000 * (started - linked))))
    print(f"ms from address, and from link, to the first instruction: {leads}")
    assert all(known > 0 and linked > 0 for known, linked in leads)


def test_events_become_snapshots_quickly(engine: Engine, watched: Watched) -> None:
    """From `network connect` in dockerd to the snapshot: a promise of 50 ms, tested threefold."""
    since = time.time_ns() // 1_000_000_000
    ours = []
    for number in range(10):
        ours.append(engine.run(f"quick-{number}"))
        watched.wait(f"quick-{number}", lambda w: w.addresses)
    until = time.time_ns() // 1_000_000_000 + 1
    offset = time.time_ns() / 1e9 - time.clock_gettime(time.CLOCK_BOOTTIME)
    connects = engine.client.events(
        since=since, until=until, decode=True, filters={"event": "connect"}
    )
    lags = []
    for event in connects:
        container = event["Actor"]["Attributes"]["container"]
        if container not in ours:  # the API counts `since` in seconds
            continue
        known = (
            at for at, ws in watched.seen for w in ws if w.runtime_id == container and w.addresses
        )
        lags.append(next(known) + offset - event["timeNano"] / 1e9)
    lags.sort()
    print(f"event to snapshot: median {1000 * lags[5]:.1f} ms, worst {1000 * lags[-1]:.1f} ms")
    assert len(lags) == 10
    assert lags[5] < 0.15


def test_a_crashed_dockerd_is_named_and_found_again(engine: Engine, watched: Watched) -> None:
    """While it is away the workloads stay and the problem is said; then the truth is read."""
    engine.run("steady", restart_policy={"Name": "always"})
    engine.run("fleeting")
    watched.wait("steady")
    watched.wait("fleeting")
    engine.stop(signal.SIGKILL)
    problem = eventually(lambda: watched.source.snapshot().problem)
    assert problem.startswith(f"Docker does not answer at {engine.socket}: ")
    assert {w.name for w in watched.source.snapshot().workloads} == {"steady", "fleeting"}
    engine.start()
    eventually(lambda: watched.source.snapshot().problem is None, what="dockerd found again")
    eventually(lambda: watched.workload("fleeting") is None, what="the lost container is gone")
    watched.wait("steady", lambda w: w.interfaces)

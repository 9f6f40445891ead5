"""Discovery against a real, rootful Podman, alone and beside a real dockerd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_dockerd import Engine, eventually
from private_podman import Podman
from test_docker_discovery import Watched

from netwatch.discover.docker import DockerSource
from netwatch.discover.sources import find_source
from netwatch.settings import Settings

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def service(dockerd: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """A private Podman with the image `box`; needs what the private dockerd needs."""
    for program, package in (("podman", "podman"), ("runc", "runc")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    runtime = Path("/run/netwatch-podman")
    runtime.mkdir(exist_ok=True)
    engine = Podman(tmp_path_factory.mktemp("podman"), runtime)
    engine.start()
    try:
        engine.load("box", ("EXPOSE 80", "EXPOSE 53/udp", 'LABEL "org.example.title"="The box"'))
        yield engine
        engine.clean()
    finally:
        engine.stop()
        shutil.rmtree(engine.folder, ignore_errors=True)


@pytest.fixture
def podman(service: Podman) -> Iterator[Podman]:
    """The private Podman, empty before and after each test."""
    yield service
    service.clean()


@pytest.fixture
def watched(podman: Podman) -> Iterator[Watched]:
    watched = Watched(podman.socket)
    watched.source = DockerSource(podman.socket, "alpha", engine="Podman")
    watched.start()
    yield watched
    watched.source.close()


def test_a_container_is_known_with_the_source_of_each_fact(
    podman: Podman, watched: Watched
) -> None:
    """Labels, ports, doors, address, bridge, link and process, as with Docker."""
    podman.run(
        "web-1",
        labels={
            "app": "web",
            "com.docker.compose.project": "shop",
            "com.docker.compose.service": "web",
        },
        expose=(81, (5353, "udp"), 80),
        publish={80: ("127.0.0.1", 8080)},
    )
    web = watched.wait("web-1", lambda w: w.pid and w.interfaces)
    assert (web.identity, web.runtime) == ("alpha/shop/web-1", "podman")
    assert (web.project, web.service) == ("shop", "web")
    assert {(label.key, label.value, label.source) for label in web.labels} == {
        ("app", "web", "runtime"),
        ("org.example.title", "The box", "image"),
        ("com.docker.compose.project", "shop", "compose"),
        ("com.docker.compose.service", "web", "compose"),
    }
    assert {(p.number, p.protocol, p.source) for p in web.ports} >= {
        (80, "tcp", "image"),
        (80, "tcp", "published"),
        (53, "udp", "image"),
    }
    door = [(p.host_address, p.host_port, p.port, p.protocol) for p in web.published]
    assert door == [("127.0.0.1", 8080, 80, "tcp")]
    assert web.addresses == (podman.address("web-1", "podman"),)
    assert [i.bridge for i in web.interfaces] == ["podman0"]
    _, said = podman.sh("web-1", "cat /sys/class/net/eth0/iflink")
    assert [i.index for i in web.interfaces] == [int(said)]
    (plan,) = [n for n in watched.source.snapshot().networks if n.name == "podman"]
    assert (plan.bridge, plan.subnets, plan.gateways) == (
        "podman0",
        ("198.18.64.0/24",),
        ("198.18.64.1",),
    )


def test_a_life_is_followed_by_its_events(podman: Podman, watched: Watched) -> None:
    """Started, stopped, started again with another link, renamed away by removal."""
    podman.run("cache")
    before = watched.wait("cache", lambda w: w.interfaces and w.pid)
    podman.client.kill("cache")
    eventually(lambda: watched.workload("cache") is None, what="the dead container is gone")
    podman.client.start("cache")
    after = watched.wait("cache", lambda w: w.interfaces and w.pid)
    _, said = podman.sh("cache", "cat /sys/class/net/eth0/iflink")
    assert [i.index for i in after.interfaces] == [int(said)]
    assert after.identity == before.identity
    podman.client.remove_container("cache", force=True)
    eventually(lambda: watched.workload("cache") is None, what="the removed container is gone")


def test_networks_of_its_own_host_network_and_shared_network(
    podman: Podman, watched: Watched
) -> None:
    podman.client.create_network("back", driver="bridge")
    podman.run("db", network="back")
    podman.run("on-host", network="host")
    db = watched.wait("db", lambda w: w.interfaces and w.pid)
    assert db.networks == ("back",)
    plan = {network.name: network for network in watched.source.snapshot().networks}
    assert [i.bridge for i in db.interfaces] == [plan["back"].bridge]
    on_host = watched.wait("on-host", lambda w: w.pid)
    assert (on_host.host_network, on_host.addresses) == (True, ())
    owner = podman.run("owner")
    podman.run("guest", network=f"container:{owner}")
    guest = watched.wait("guest", lambda w: w.pid and w.interfaces)
    assert guest.addresses == watched.wait("owner").addresses != ()


def test_docker_and_podman_on_one_host_are_one_snapshot(podman: Podman, engine: Engine) -> None:
    """Of two containers with one name each has its own address, and an identity of its own."""
    engine.run("web")
    podman.run("web")
    podman.run("db")
    settings = Settings(host="alpha", docker_socket=engine.socket, podman_socket=podman.socket)
    source = find_source(settings)
    source.start(lambda: None)
    try:
        found = {w.key: w for w in source.snapshot().workloads}
        assert {key: w.runtime for key, w in found.items()} == {
            "default/web": "docker",
            "default/web@podman": "podman",
            "default/db": "podman",
        }
        assert found["default/web"].addresses == (engine.address("web"),)
        assert found["default/web@podman"].addresses == (podman.address("web", "podman"),)
        assert all(w.interfaces and w.pid for w in found.values())
        assert source.snapshot().problem is None
    finally:
        source.close()

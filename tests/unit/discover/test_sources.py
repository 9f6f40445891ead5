"""Two runtimes on one host are one host: nobody is lost, nobody is taken for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from netwatch.discover.docker import find_podman
from netwatch.discover.sources import NoSource, Together, find_source, merged
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Interface, Workload
from netwatch.settings import Settings


def workload(name: str, runtime: str, *, network: str = "shop") -> Workload:
    link = Interface(f"veth-{runtime}-{name}", 7, f"br-{runtime}", network)
    return Workload(
        "alpha",
        "default",
        name,
        runtime,
        addresses=(f"198.18.{len(runtime)}.2",),
        interfaces=(link,),
        networks=(network,),
    )


def snapshot(runtime: str, *names: str, network: str = "shop") -> Snapshot:
    return Snapshot(
        "alpha",
        tuple(workload(name, runtime, network=network) for name in names),
        (Network(network, "bridge", f"br-{runtime}"),),
        addresses=("192.0.2.1",),
        uplinks=("eth0",),
    )


def test_what_both_know_is_known_once_and_what_one_knows_stays() -> None:
    whole = merged(
        {
            "docker": snapshot("docker", "web", network="front"),
            "podman": snapshot("podman", "db", network="back"),
        }
    )
    assert [(w.name, w.runtime) for w in whole.workloads] == [("web", "docker"), ("db", "podman")]
    assert [n.name for n in whole.networks] == ["front", "back"]
    assert (whole.host, whole.addresses, whole.uplinks) == ("alpha", ("192.0.2.1",), ("eth0",))
    assert whole.problem is None


def test_equal_names_are_told_apart_and_the_first_runtime_keeps_its_own() -> None:
    """Identities stay unique, and each workload's network is its own runtime's."""
    whole = merged(
        {"docker": snapshot("docker", "web"), "podman": snapshot("podman", "web", "db")}
    )
    assert [w.key for w in whole.workloads] == ["default/web", "default/web@podman", "default/db"]
    assert {n.name: n.bridge for n in whole.networks} == {
        "shop": "br-docker",
        "shop@podman": "br-podman",
    }
    bridge_of = {network.name: network.bridge for network in whole.networks}
    for known in whole.workloads:
        assert [bridge_of[name] for name in known.networks] == [f"br-{known.runtime}"]
        assert [link.network for link in known.interfaces] == list(known.networks)


def test_every_problem_is_told() -> None:
    docker = replace(snapshot("docker", "web"), problem="Docker is away")
    podman = replace(snapshot("podman", "db"), problem="Podman is away")
    told = merged({"docker": docker, "podman": podman})
    assert told.problem == "Docker is away; Podman is away"
    assert len(told.workloads) == 2


class Fixed:
    """A source that says what it is told to say."""

    def __init__(self, says: Snapshot) -> None:
        self.says = says
        self.closed = False

    def start(self, changed: Callable[[], None]) -> None:
        changed()

    def snapshot(self) -> Snapshot:
        return self.says

    def close(self) -> None:
        self.closed = True


def test_sources_together_start_change_and_end_together() -> None:
    """Every change of either is in the next snapshot; without a change it is the same object."""
    docker, podman = Fixed(snapshot("docker", "web")), Fixed(snapshot("podman"))
    changes: list[int] = []
    together = Together({"docker": docker, "podman": podman})
    together.start(lambda: changes.append(1))
    first = together.snapshot()
    assert len(changes) == 2
    assert together.snapshot() is first
    podman.says = snapshot("podman", "db")
    assert [w.name for w in together.snapshot().workloads] == ["web", "db"]
    together.close()
    assert docker.closed and podman.closed


def test_one_socket_under_two_names_is_one_runtime(tmp_path: Path) -> None:
    """Debian's podman-docker links Docker's socket to Podman's."""
    podman, docker = tmp_path / "podman.sock", tmp_path / "docker.sock"
    podman.touch()
    docker.symlink_to(podman)
    settings = Settings(docker_socket=str(docker), podman_socket=str(podman))
    assert find_podman(settings) is None
    docker.unlink()
    assert find_podman(settings) is not None


def test_a_host_without_a_runtime_says_where_it_looked(tmp_path: Path) -> None:
    docker, podman = str(tmp_path / "d.sock"), str(tmp_path / "p.sock")
    source = find_source(Settings(host="alpha", docker_socket=docker, podman_socket=podman))
    assert isinstance(source, NoSource)
    told = source.snapshot().problem or ""
    assert docker in told and podman in told

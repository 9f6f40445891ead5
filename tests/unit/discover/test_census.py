"""What follows from a sequence of news about containers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netwatch.discover.census import Census
from netwatch.discover.container import Container, EngineNetwork
from netwatch.model.workload import Interface

PLUG = ("br-nnnnnnnnnnnn", "02:42:c6:12:00:02")


def container(name: str, state: str = "running", mode: str = "net") -> Container:
    element: dict[str, Any] = {
        "Id": name,
        "Names": [f"/{name}"],
        "Image": "box",
        "ImageID": "sha256:aa",
        "State": state,
        "HostConfig": {"NetworkMode": mode},
    }
    return msgspec.convert(element, Container)


def network(*members: str) -> EngineNetwork:
    ends = {
        name: {"MacAddress": PLUG[1], "IPv4Address": f"198.18.0.{n}/24"}
        for n, name in enumerate(members, 2)
    }
    element = {"Id": "n" * 64, "Name": "net", "Driver": "bridge", "Containers": ends}
    return msgspec.convert(element, EngineNetwork)


def census(*containers: Container, members: tuple[str, ...] = ()) -> Census:
    return Census(containers={c.id: c for c in containers}, networks={"n" * 64: network(*members)})


def names(found: Census) -> list[str]:
    return [workload.name for workload in found.workloads("alpha")]


@pytest.mark.parametrize(
    ("state", "members", "known"),
    [
        pytest.param("created", (), [], id="created: nothing of it is on the network"),
        pytest.param("created", ("a",), ["a"], id="plugged in: its first packet may come"),
        pytest.param("running", ("a",), ["a"], id="running"),
        pytest.param("running", (), ["a"], id="running without a network"),
        pytest.param("paused", (), ["a"], id="paused: its sockets live"),
        pytest.param("exited", (), [], id="exited"),
    ],
)
def test_a_workload_is_what_runs_or_is_plugged_in(
    state: str, members: tuple[str, ...], known: list[str]
) -> None:
    """From the moment of the address on, and not one event later."""
    assert names(census(container("a", state), members=members)) == known


def test_an_address_is_free_when_the_container_left() -> None:
    """Addresses are given again at once: a stale one would lend its identity to the next."""
    found = census(container("a"), container("b"), members=("a", "b"))
    found.ends = {PLUG: Interface("veth1", 5)}
    found.unplug("a", "n" * 64)
    known = {w.name: w for w in found.workloads("alpha")}
    assert (known["a"].addresses, known["b"].addresses) == ((), ("198.18.0.3",))
    assert found.ends == {}, "the next container there has another link"


def test_a_dead_container_has_nothing() -> None:
    """Its entry stays for the next start; its address, link and process id do not."""
    found = census(container("a"), members=("a",))
    found.pids["a"] = 77
    found.ended("a")
    assert names(found) == []
    assert found.pids == {}
    assert found.containers["a"].state == "exited"


def test_sharers_have_the_owners_network_and_stand_behind_it() -> None:
    """`--network container:X`, also through another sharer, also of a host's network."""
    found = census(
        container("a-guest", mode="container:z-owner"),
        container("guest-of-guest", mode="container:a-guest"),
        container("z-owner"),
        container("h", mode="host"),
        container("guest-of-host", mode="container:h"),
        members=("z-owner",),
    )
    known = {w.name: w for w in found.workloads("alpha")}
    assert known["a-guest"].addresses == known["guest-of-guest"].addresses == ("198.18.0.2",)
    assert known["guest-of-host"].host_network
    assert not known["a-guest"].host_network
    assert names(found).index("z-owner") < names(found).index("a-guest")


@pytest.mark.parametrize("mode", ["container:a", "container:gone", "container:"])
def test_a_share_that_leads_nowhere_ends(mode: str) -> None:
    """Hostile or outdated data must not loop."""
    assert names(census(container("a", mode=mode))) == ["a"]


def test_what_nobody_refers_to_is_forgotten() -> None:
    """Memory follows what exists."""
    found = census(container("a"), members=("a",))
    found.pids = {"a": 1, "gone": 2}
    found.ends = {PLUG: Interface("veth1", 5), ("docker0", "gone"): Interface("veth2", 6)}
    found.forget_unused()
    assert (found.pids, list(found.ends)) == ({"a": 1}, [PLUG])


@pytest.mark.parametrize(
    ("mode", "host_network"),
    [
        pytest.param("host", True, id="the host's network"),
        pytest.param("bridge", False, id="a network of its own"),
    ],
)
def test_a_mode_that_the_list_left_out_is_what_the_container_said(
    mode: str, host_network: bool
) -> None:
    """Podman's list names no network mode; the answer about one container does."""
    known = census(container("a", mode="default"))
    assert [w.host_network for w in known.workloads("alpha")] == [False]
    known.modes["a"] = mode
    assert [w.host_network for w in known.workloads("alpha")] == [host_network]


def test_a_mode_is_forgotten_with_its_container() -> None:
    known = census(container("a"))
    known.modes |= {"a": "host", "gone": "host"}
    known.forget_unused()
    assert known.modes == {"a": "host"}


def test_a_workload_stays_the_same_object_until_something_of_it_changes() -> None:
    """Whoever remembers what follows from a workload need not look at it again."""
    found = census(container("a"), container("b"), members=("a", "b"))
    before = found.workloads("alpha")
    assert all(one is two for one, two in zip(before, found.workloads("alpha"), strict=True))
    found.pids["a"] = 77
    after = found.workloads("alpha")
    assert (after[0].pid, after[0] is before[0], after[1] is before[1]) == (77, False, True)
    found.containers["b"] = msgspec.structs.replace(found.containers["b"], labels={"app": "b"})
    assert found.workloads("alpha")[1].label_values() == {"app": "b"}

"""Answers of the Engine API as workloads and networks, by tables; no engine is asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netwatch.discover.container import (
    MAX_LABEL,
    MAX_LABELS,
    Attachment,
    Container,
    EngineNetwork,
    Image,
    attachments_of,
    network_of,
    workload_of,
)
from netwatch.model.workload import Interface, Workload

ID = "52c213e23db1" + "0" * 52
HOSTILE = [
    pytest.param('a"b\n-j ACCEPT', id="quote and line break"),
    pytest.param("$(reboot)`id`;|&", id="shell"),
    pytest.param("' OR 1=1 --", id="sql"),
    pytest.param("<script>alert(1)</script>", id="html"),
    pytest.param("\x1b[2J\x00\x7f", id="control characters"),
    pytest.param("../../etc/passwd", id="path"),
    pytest.param("💣‮", id="emoji and right-to-left override"),
]


def listed(**fields: Any) -> Container:
    element = {
        "Id": ID,
        "Names": ["/web"],
        "Image": "shop/web:1",
        "ImageID": "sha256:aa",
        "State": "running",
        "Labels": {},
        "Ports": [],
        "HostConfig": {"NetworkMode": "bridge"},
    }
    return msgspec.convert(element | fields, Container)


def image(**config: Any) -> Image:
    return msgspec.convert({"Id": "sha256:aa", "Config": config}, Image)


def workload(container: Container, made_of: Image | None = None, **known: Any) -> Workload:
    return workload_of(container, made_of or image(), host="alpha", **known)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        pytest.param(["/web"], "web", id="one"),
        pytest.param(["/shop/db", "/web"], "web", id="a link's alias comes first"),
        pytest.param(["/web", "/shop/db"], "web", id="a link's alias comes last"),
        pytest.param([], ID[:12], id="none yet"),
        pytest.param(None, ID[:12], id="null"),
    ],
)
def test_the_name_is_the_containers_own(names: list[str] | None, name: str) -> None:
    """Links of old add names with two slashes; they are other containers' names for this one."""
    assert workload(listed(Names=names)).name == name


@pytest.mark.parametrize(
    ("labels", "identity", "project", "service"),
    [
        pytest.param({}, "alpha/default/web", None, None, id="plain"),
        pytest.param(
            {"com.docker.compose.project": "shop", "com.docker.compose.service": "front"},
            "alpha/shop/web",
            "shop",
            "front",
            id="compose",
        ),
        pytest.param(
            {"io.kubernetes.pod.namespace": "prod", "com.docker.compose.project": "shop"},
            "alpha/prod/web",
            "shop",
            None,
            id="a pod's namespace comes first",
        ),
        pytest.param(
            {"com.docker.compose.project": ""}, "alpha/default/web", None, None, id="empty project"
        ),
    ],
)
def test_where_identity_comes_from(
    labels: dict[str, str], identity: str, project: str | None, service: str | None
) -> None:
    """The namespace is Kubernetes', else the Compose project, else `default`."""
    found = workload(listed(Labels=labels))
    assert (found.identity, found.project, found.service) == (identity, project, service)


def test_each_label_says_who_wrote_it() -> None:
    """A label is the image's only while it has the image's value."""
    own = {
        "a": "from the image",
        "b": "changed at start",
        "c": "new at start",
        "com.docker.compose.service": "web",
        "com.docker.compose.version": "baked",
    }
    baked = {"a": "from the image", "b": "image", "com.docker.compose.version": "baked"}
    found = workload(listed(Labels=own), image(Labels=baked))
    assert {label.key: label.source for label in found.labels} == {
        "a": "image",
        "b": "runtime",
        "c": "runtime",
        "com.docker.compose.service": "compose",
        "com.docker.compose.version": "image",
    }
    assert found.label_values() == own


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_labels_survive_as_data(text: str) -> None:
    """What somebody wrote comes out as it went in, as key and as value."""
    found = workload(listed(Labels={"note": text, text: "1"}))
    assert found.label_values() == {"note": text, text: "1"}


def test_labels_are_bounded_and_always_writable() -> None:
    """Too many or too long are left out, never cut; a lone surrogate can not break a report."""
    many = {f"k{number:04}": "v" for number in range(MAX_LABELS + 9)}
    assert len(workload(listed(Labels=many)).labels) == MAX_LABELS
    assert workload(listed(Labels={"k": "v" * MAX_LABEL})).labels == ()
    broken = workload(listed(Labels={"k": "\ud800"})).labels[0]
    assert broken.value.encode() == b"?"


@pytest.mark.parametrize(
    ("exposed", "ports", "labels", "documented"),
    [
        pytest.param(["80/tcp"], [], {}, {(80, "tcp", "image")}, id="EXPOSE"),
        pytest.param(["53/udp"], [], {}, {(53, "udp", "image")}, id="EXPOSE udp"),
        pytest.param(["80"], [], {}, {(80, "tcp", "image")}, id="no protocol is tcp"),
        pytest.param(
            ["8000-8002/tcp"],
            [],
            {},
            {(8000, "tcp", "image"), (8001, "tcp", "image"), (8002, "tcp", "image")},
            id="a range",
        ),
        pytest.param(
            ["80/tcp"],
            [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
            {},
            {(80, "tcp", "image"), (80, "tcp", "published")},
            id="exposed by the image and published",
        ),
        pytest.param(
            ["80/tcp"],
            [{"PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 81, "Type": "tcp"}],
            {},
            {(80, "tcp", "image"), (81, "tcp", "runtime")},
            id="--expose on the command line",
        ),
        pytest.param(
            [],
            [{"PrivatePort": 81, "Type": "tcp"}],
            {"com.docker.compose.project": "shop"},
            {(81, "tcp", "compose")},
            id="expose in a Compose file",
        ),
        pytest.param(
            ["http/tcp", "/", "0/tcp", "70000/tcp", "9-1/tcp", "-5", "٣/tcp", "1-x"],
            [],
            {},
            set(),
            id="what is no port",
        ),
    ],
)
def test_each_documented_port_says_who_wrote_it_down(
    exposed: list[str],
    ports: list[dict[str, Any]],
    labels: dict[str, str],
    documented: set[tuple[int, str, str]],
) -> None:
    """One entry for each author, so that `undocumented` can be argued about."""
    made_of = image(ExposedPorts={text: {} for text in exposed})
    found = workload(listed(Ports=ports, Labels=labels), made_of)
    assert {(p.number, p.protocol, p.source) for p in found.ports} == documented


def test_published_ports_are_doors_of_the_host() -> None:
    """Podman leaves the address empty where it means every address."""
    ports = [
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "", "PrivatePort": 443, "PublicPort": 8443, "Type": "tcp"},
        {"PrivatePort": 9000, "Type": "tcp"},
    ]
    doors = workload(listed(Ports=ports)).published
    assert [(d.host_address, d.host_port, d.port) for d in doors] == [
        ("0.0.0.0", 8443, 443),
        ("::", 8080, 80),
    ]


def test_an_image_that_says_nothing_documents_nothing() -> None:
    """`docker import` leaves nulls where a builder writes objects."""
    found = workload(listed(Labels=None, Ports=None), image(Labels=None, ExposedPorts=None))
    assert (found.labels, found.ports, found.published) == ((), (), ())
    assert workload(listed(), Image()).ports == ()


def engine_network(**fields: Any) -> EngineNetwork:
    element = {
        "Id": "811b58088518" + "0" * 52,
        "Name": "back",
        "Driver": "bridge",
        "IPAM": {"Config": [{"Subnet": "198.18.7.0/24", "Gateway": "198.18.7.1"}]},
        "Containers": {},
        "Options": {},
    }
    return msgspec.convert(element | fields, EngineNetwork)


@pytest.mark.parametrize(
    ("fields", "bridge", "subnets", "gateways"),
    [
        pytest.param(
            {}, "br-811b58088518", ("198.18.7.0/24",), ("198.18.7.1",), id="a user's bridge"
        ),
        pytest.param(
            {"Options": {"com.docker.network.bridge.name": "docker0"}},
            "docker0",
            ("198.18.7.0/24",),
            ("198.18.7.1",),
            id="a named bridge",
        ),
        pytest.param(
            {"IPAM": {"Config": [{"Subnet": "2001:db8::/64", "Gateway": "2001:db8::1/64"}]}},
            "br-811b58088518",
            ("2001:db8::/64",),
            ("2001:db8::1",),
            id="a gateway with its prefix length",
        ),
        pytest.param(
            {"Driver": "host", "IPAM": {"Config": None}, "Options": None}, None, (), (), id="host"
        ),
        pytest.param(
            {"Driver": "macvlan"}, None, ("198.18.7.0/24",), ("198.18.7.1",), id="macvlan"
        ),
    ],
)
def test_networks(
    fields: dict[str, Any], bridge: str | None, subnets: tuple[str, ...], gateways: tuple[str, ...]
) -> None:
    """A bridge is named by the option, else by Docker's rule; other drivers have none."""
    found = network_of(engine_network(**fields))
    assert (found.bridge, found.subnets, found.gateways) == (bridge, subnets, gateways)


@pytest.mark.parametrize(
    ("driver", "options", "parent"),
    [
        pytest.param("macvlan", {"parent": "eth1"}, "eth1", id="the one that was named"),
        pytest.param("macvlan", None, "dm-811b58088518", id="the dummy of macvlan"),
        pytest.param("ipvlan", {}, "di-811b58088518", id="the dummy of ipvlan"),
        pytest.param("bridge", {"parent": "eth1"}, None, id="a bridge lies on nothing"),
    ],
)
def test_a_network_may_lie_on_an_interface(
    driver: str, options: dict[str, str] | None, parent: str | None
) -> None:
    """Docker makes an interface of its own where none is named."""
    assert network_of(engine_network(Driver=driver, Options=options)).parent == parent


def test_addresses_and_links_come_from_the_networks() -> None:
    """Both families, in order of the networks' names; a link not plugged in yet is left out."""
    end = {"MacAddress": "02:42:C6:12:07:02", "IPv4Address": "198.18.7.2/24"}
    back = engine_network(Containers={ID: end | {"IPv6Address": "2001:db8::2/64"}, "other": {}})
    front = engine_network(Id="f" * 64, Name="front", Containers={ID: end})
    found = attachments_of(ID, [front, back, engine_network(Id="0" * 64, Name="empty")])
    plug = ("br-811b58088518", "02:42:c6:12:07:02")
    assert found[0] == Attachment("back", ("198.18.7.2", "2001:db8::2"), plug)
    assert [attachment.network for attachment in found] == ["back", "front"]
    ends = {plug: Interface("veth1", 5, "br-811b58088518")}
    web = workload(listed(), attachments=found, interfaces=ends)
    assert web.addresses == ("198.18.7.2", "2001:db8::2", "198.18.7.2")
    assert web.interfaces == (Interface("veth1", 5, "br-811b58088518", "back", plug[1]),)
    assert web.networks == ("back", "front")


@pytest.mark.parametrize(
    ("options", "encrypted"),
    [
        pytest.param({"encrypted": ""}, True, id="docker network create --opt encrypted"),
        pytest.param({"encrypted": "true"}, True, id="with a value"),
        pytest.param({"com.docker.network.driver.overlay.vxlanid_list": "4097"}, False, id="none"),
        pytest.param(None, False, id="no options"),
    ],
)
def test_an_overlay_says_whether_it_was_made_to_encrypt(
    options: dict[str, str] | None, encrypted: bool
) -> None:
    mesh = EngineNetwork(id="1", name="mesh", driver="overlay", options=options)
    assert network_of(mesh).encrypted is encrypted

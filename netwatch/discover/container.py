"""What the Engine API says, as workloads and networks: pure, so that tables can hold it.

The shapes follow the Docker Engine API 1.41 (`/containers/json`, `/networks/{id}`,
`/images/{id}/json`, `/events`); Podman's compatible API answers with the same. A container is read
from the list and never from `/containers/{id}/json`, which waits for the container's lock while it
starts. Everything here was chosen by whoever may start a container: it is kept as data, untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from netwatch.model.snapshot import Network
from netwatch.model.workload import DocumentedPort, Interface, Label, PublishedPort, Workload

COMPOSE = "com.docker.compose."
POD_NAMESPACE = "io.kubernetes.pod.namespace"
BRIDGE_NAME = "com.docker.network.bridge.name"
MAX_LABELS = 512  # of one workload; the rest, in order of key, is left out
MAX_LABEL = 4096  # characters of key and value; a longer label is left out
Plug = tuple[str, str]  # where a container is plugged in: name of the bridge, its MAC address
LIVE = frozenset({"running", "paused", "restarting"})


class PortEntry(msgspec.Struct, rename="pascal", frozen=True):
    """One line of `Ports`: exposed, or published too if it has a public port."""

    private_port: int
    type: str
    public_port: int | None = None
    ip: str | None = msgspec.field(default=None, name="IP")


class HostConfig(msgspec.Struct, rename="pascal", frozen=True):
    """The only part of a container's host configuration that the list shows."""

    network_mode: str = "default"


class NetworkSettings(msgspec.Struct, rename="pascal", frozen=True):
    """The networks that a container was told to join, by name."""

    networks: dict[str, object] | None = None


class Container(msgspec.Struct, rename="pascal", frozen=True):
    """One element of `GET /containers/json`."""

    id: str
    names: list[str] | None
    image: str
    image_id: str = msgspec.field(name="ImageID")
    state: str = ""
    labels: dict[str, str] | None = None
    ports: list[PortEntry] | None = None
    host_config: HostConfig = HostConfig()
    network_settings: NetworkSettings = NetworkSettings()


class Process(msgspec.Struct, rename="pascal", frozen=True):
    """The first process of a container; 0 when there is none."""

    pid: int = 0


class Inspected(msgspec.Struct, rename="pascal", frozen=True):
    """What `GET /containers/{id}/json` says more; Podman's list leaves the network's mode out."""

    state: Process = Process()
    host_config: HostConfig = HostConfig()


class ImageConfig(msgspec.Struct, rename="pascal", frozen=True):
    """What the builder of an image wrote into it."""

    labels: dict[str, str] | None = None
    exposed_ports: dict[str, object] | None = None


class Image(msgspec.Struct, rename="pascal", frozen=True):
    """The answer of `GET /images/{id}/json`."""

    config: ImageConfig | None = None


class Plugged(msgspec.Struct, rename="pascal", frozen=True):
    """A container's end of a network; addresses carry their prefix length, or are empty."""

    mac_address: str = ""
    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")


class Pool(msgspec.Struct, rename="pascal", frozen=True):
    """One subnet of a network."""

    subnet: str = ""
    gateway: str = ""


class Ipam(msgspec.Struct, rename="pascal", frozen=True):
    """The address plan of a network."""

    config: list[Pool] | None = None


class EngineNetwork(msgspec.Struct, rename="pascal", frozen=True):
    """The answer of `GET /networks/{id}`."""

    id: str
    name: str
    driver: str = ""
    ipam: Ipam = msgspec.field(default=Ipam(), name="IPAM")
    containers: dict[str, Plugged] | None = None
    options: dict[str, str] | None = None


class Actor(msgspec.Struct, rename="pascal", frozen=True):
    """Whom an event is about."""

    id: str = msgspec.field(default="", name="ID")
    attributes: dict[str, str] | None = None


class Event(msgspec.Struct, rename="pascal", frozen=True):
    """One line of `GET /events`."""

    type: str = ""
    action: str = ""
    actor: Actor = Actor()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container on a network."""

    network: str
    addresses: tuple[str, ...]
    plug: Plug | None


def bridge_of(network: EngineNetwork) -> str | None:
    """The bridge of a network on this host: by its option, else by Docker's rule."""
    named = (network.options or {}).get(BRIDGE_NAME)
    if named:
        return named
    return f"br-{network.id[:12]}" if network.driver == "bridge" else None


def network_of(network: EngineNetwork) -> Network:
    """A network as the model has it; a gateway may be missing where the runtime leaves it out."""
    pools = network.ipam.config or []
    return Network(
        network.name,
        network.driver,
        bridge_of(network),
        tuple(pool.subnet for pool in pools if pool.subnet),
        tuple(_bare(pool.gateway) for pool in pools if pool.gateway),
        encrypted="encrypted" in (network.options or {}),
        parent=parent_of(network),
    )


def parent_of(network: EngineNetwork) -> str | None:
    """The interface that a macvlan or ipvlan network lies on: its option, else Docker's dummy."""
    if network.driver not in ("macvlan", "ipvlan"):
        return None
    return (network.options or {}).get("parent") or f"d{network.driver[0]}-{network.id[:12]}"


def attachments_of(container: str, networks: Iterable[EngineNetwork]) -> tuple[Attachment, ...]:
    """Where a container is plugged in, in order of the networks' names."""
    return attached(networks, only=container).get(container, ())


def attached(
    networks: Iterable[EngineNetwork], *, only: str | None = None
) -> dict[str, tuple[Attachment, ...]]:
    """The same of all containers by id, or of one."""
    found: dict[str, tuple[Attachment, ...]] = {}
    for network in sorted(networks, key=lambda network: network.name):
        bridge, ends = bridge_of(network), network.containers or {}
        for container in ends if only is None else ends.keys() & {only}:
            end = ends[container]
            plug = (bridge, end.mac_address.lower()) if bridge and end.mac_address else None
            texts = (end.ipv4_address, end.ipv6_address)
            here = Attachment(network.name, tuple(_bare(t) for t in texts if t), plug)
            found[container] = (*found.get(container, ()), here)
    return found


def workload_of(
    container: Container,
    image: Image,
    *,
    host: str,
    runtime: str = "docker",
    attachments: tuple[Attachment, ...] = (),
    interfaces: Mapping[Plug, Interface] | None = None,
    pid: int | None = None,
    host_network: bool = False,
) -> Workload:
    """One container as the model has it. `interfaces` are those found so far, by plug."""
    config = image.config or ImageConfig()
    own = container.labels or {}
    project = own.get(COMPOSE + "project") or None
    ends = interfaces or {}
    return Workload(
        host=host,
        namespace=_text(own.get(POD_NAMESPACE) or project or "default"),
        name=_text(name_of(container)),
        runtime=runtime,
        labels=labels_of(own, config.labels or {}),
        addresses=tuple(address for a in attachments for address in a.addresses),
        ports=ports_of(container, config.exposed_ports or {}),
        published=published_of(container.ports or ()),
        interfaces=tuple(
            Interface(ends[a.plug].name, ends[a.plug].index, a.plug[0], a.network, a.plug[1])
            for a in attachments
            if a.plug in ends and a.plug is not None
        ),
        networks=tuple(a.network for a in attachments),
        project=_text(project) if project else None,
        service=_text(own.get(COMPOSE + "service", "")) or None,
        image=container.image,
        image_digest=container.image_id,
        runtime_id=container.id,
        pid=pid,
        host_network=host_network,
    )


def name_of(container: Container) -> str:
    """Its own name: the one without a second slash, which links of other containers have."""
    names = [name.removeprefix("/") for name in container.names or ()]
    return next((name for name in names if "/" not in name), container.id[:12])


def labels_of(own: Mapping[str, str], image: Mapping[str, str]) -> tuple[Label, ...]:
    """Labels in order of key: inherited from the image, written by Compose, or given at start."""
    kept = [(k, v) for k, v in sorted(own.items()) if len(k) + len(v) <= MAX_LABEL]
    return tuple(
        Label(_text(key), _text(value), _source(key, value, image))
        for key, value in kept[:MAX_LABELS]
    )


def _source(key: str, value: str, image: Mapping[str, str]) -> str:
    if image.get(key) == value:
        return "image"
    return "compose" if key.startswith(COMPOSE) else "runtime"


def ports_of(container: Container, exposed: Iterable[str]) -> tuple[DocumentedPort, ...]:
    """Every port that somebody wrote down, once for each who did.

    `image` wrote EXPOSE; `published` ports were given a door; what else is exposed was asked for
    when the container was made: by `compose`, or by the command line, which is `runtime`.
    """
    written = {port for text in exposed for port in _expose(text)}
    maker = "compose" if COMPOSE + "project" in (container.labels or {}) else "runtime"
    documented = {DocumentedPort(number, protocol, "image") for number, protocol in written}
    for entry in container.ports or ():
        if entry.public_port:
            documented.add(DocumentedPort(entry.private_port, entry.type, "published"))
        elif (entry.private_port, entry.type) not in written:
            documented.add(DocumentedPort(entry.private_port, entry.type, maker))
    return tuple(sorted(documented, key=lambda port: (port.number, port.protocol, port.source)))


def published_of(entries: Iterable[PortEntry]) -> tuple[PublishedPort, ...]:
    """The doors on the host."""
    return tuple(
        sorted(
            PublishedPort(entry.ip or "0.0.0.0", entry.public_port, entry.private_port, entry.type)
            for entry in entries
            if entry.public_port
        )
    )


def _expose(text: str) -> list[tuple[int, str]]:
    """`80`, `53/udp` or `8000-8010/tcp`; what is no port documents nothing."""
    span, _, protocol = text.partition("/")
    first, _, last = span.partition("-")
    if not (first.isascii() and first.isdigit() and (not last or last.isdigit())):
        return []
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:
        return []
    return [(number, protocol.lower() or "tcp") for number in range(low, high + 1)]


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _text(text: str) -> str:
    """Without lone surrogates: they can not be written as UTF-8, so no report could carry them."""
    return text.encode(errors="replace").decode()

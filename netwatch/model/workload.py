"""A workload: whatever runs on a host and has a network identity of its own.

Identity is labels, never an address or a container id: a container that is recreated with another
address is the same workload. Every label says where it came from, because a label that whoever
starts a container may copy is worth less than one that an operator assigned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Label(NamedTuple):
    """One selector key. `source` is runtime, compose, image, own, operator or lab."""

    key: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, order=True)
class DocumentedPort:
    """A port that somebody wrote down. `source`: image, published, compose, label, policy, lab."""

    number: int
    protocol: str
    source: str
    name: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class PublishedPort:
    """A door on the host: `host_address:host_port` leads to `port` of the workload."""

    host_address: str
    host_port: int
    port: int
    protocol: str


@dataclass(frozen=True, slots=True, order=True)
class Interface:
    """The host-side end of a workload's link: what capture attaches to and anti-spoofing names.

    `mac` is the hardware address of the workload's own end, as the runtime gave it.
    """

    name: str
    index: int
    bridge: str | None = None
    network: str | None = None
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """One container or namespace. `runtime_id` and `pid` locate it; they are not its identity."""

    host: str
    namespace: str
    name: str
    runtime: str
    labels: tuple[Label, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[DocumentedPort, ...] = ()
    published: tuple[PublishedPort, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    networks: tuple[str, ...] = ()
    project: str | None = None
    service: str | None = None
    image: str | None = None
    image_digest: str | None = None
    runtime_id: str = ""
    pid: int | None = None
    host_network: bool = False
    link_local: tuple[str, ...] = ()
    """Its own addresses of single links, fe80::/10: added where rules are made."""

    @property
    def key(self) -> str:
        """`namespace/name`: how policies, matrices and people call it on one host."""
        return f"{self.namespace}/{self.name}"

    @property
    def identity(self) -> str:
        """`host/namespace/name`: unique in a fleet, stable over restarts and addresses."""
        return f"{self.host}/{self.namespace}/{self.name}"

    def label_values(self) -> dict[str, str]:
        """Labels as selectors see them; of two with one key the later in `labels` wins."""
        return {label.key: label.value for label in self.labels}

    def documents(self, protocol: str, port: int) -> DocumentedPort | None:
        """The documentation of that port, or None: nobody wrote it down."""
        for known in self.ports:
            if (known.number, known.protocol) == (port, protocol):
                return known
        return None


def workload_as_json(workload: Workload) -> dict[str, Any]:
    """The object that `netwatch workloads --json` and `/api/v1/workloads` give."""
    return {
        "id": workload.identity,
        "host": workload.host,
        "namespace": workload.namespace,
        "name": workload.name,
        "runtime": workload.runtime,
        "runtime_id": workload.runtime_id or None,
        "project": workload.project,
        "service": workload.service,
        "image": workload.image,
        "image_digest": workload.image_digest,
        "labels": workload.label_values(),
        "label_sources": {label.key: label.source for label in workload.labels},
        "addresses": list(workload.addresses),
        "networks": list(workload.networks),
        "host_network": workload.host_network,
        "interfaces": [interface.name for interface in workload.interfaces],
        "ports": [
            {"port": p.number, "protocol": p.protocol, "name": p.name, "source": p.source}
            for p in workload.ports
        ],
        "published": [
            {
                "host_address": p.host_address,
                "host_port": p.host_port,
                "port": p.port,
                "protocol": p.protocol,
            }
            for p in workload.published
        ],
    }

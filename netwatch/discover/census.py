"""Everything an engine has said so far, and the workloads that follow from it; does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from netwatch.discover.container import (
    LIVE,
    Attachment,
    Container,
    EngineNetwork,
    Image,
    Plug,
    attachments_of,
    workload_of,
)
from netwatch.model.workload import Interface, Workload

SHARED = "container:"  # NetworkMode of a container that lives in another's network


@dataclass(slots=True)
class Census:
    """By id: containers (running or not), networks, images, process ids, and the network's mode
    where it was asked for. Links by plug.
    """

    runtime: str = "docker"
    containers: dict[str, Container] = field(default_factory=dict)
    networks: dict[str, EngineNetwork] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)
    ends: dict[Plug, Interface] = field(default_factory=dict)

    def unplug(self, container: str, network: str) -> None:
        """The container left the network, and its address there may be another's at once."""
        known = self.networks.get(network)
        for attachment in attachments_of(container, [known] if known else []):
            if attachment.plug:  # the next one there may have the same MAC address, never the link
                self.ends.pop(attachment.plug, None)
        if known and container in (known.containers or {}):
            left = {k: v for k, v in (known.containers or {}).items() if k != container}
            self.networks[network] = msgspec.structs.replace(known, containers=left)

    def ended(self, container: str) -> None:
        """Its process ended: whatever it had is free."""
        for network in list(self.networks):
            self.unplug(container, network)
        self.pids.pop(container, None)
        if container in self.containers:
            exited = msgspec.structs.replace(
                self.containers[container], state="exited", ports=None
            )
            self.containers[container] = exited

    def forget_unused(self) -> None:
        """Drop images, process ids and links that no container refers to any more."""
        images = {container.image_id for container in self.containers.values()}
        live = {container.id for container in self.containers.values() if container.state in LIVE}
        plugs = self.plugs()
        self.images = {k: v for k, v in self.images.items() if k in images}
        self.pids = {k: v for k, v in self.pids.items() if k in live}
        self.modes = {k: v for k, v in self.modes.items() if k in self.containers}
        self.ends = {k: v for k, v in self.ends.items() if k in plugs}

    def plugs(self) -> set[Plug]:
        """Where containers are plugged in now."""
        return {
            attachment.plug
            for container in self.containers
            for attachment in self._own(container)
            if attachment.plug
        }

    def unread(self, container: Container) -> list[str]:
        """Networks that it joined without an event; Podman tells of none at a start."""
        known = self._addressed(container.id)
        joined = container.network_settings.networks or {}
        return [name for name in joined if name not in known]

    def workloads(self, host: str) -> tuple[Workload, ...]:
        """One for each container that runs or has an address; sharers behind their owners."""
        live = [c for c in self.containers.values() if c.state in LIVE or self._addressed(c.id)]
        live.sort(key=lambda c: (self._mode(c).startswith(SHARED), c.names or []))
        return tuple(self._workload(container, host) for container in live)

    def _workload(self, container: Container, host: str) -> Workload:
        owner = self._owner(container)
        return workload_of(
            container,
            self.images.get(container.image_id, Image()),
            host=host,
            runtime=self.runtime,
            attachments=self._own(owner.id),
            interfaces=self.ends,
            pid=self.pids.get(container.id),
            host_network=self._mode(owner) == "host",
        )

    def _owner(self, container: Container) -> Container:
        """Whose network it lives in: its own, or the one it was started into."""
        for _ in range(8):  # a container may share with a sharer, and hostile data with itself
            mode = self._mode(container)
            owner = self.containers.get(mode.removeprefix(SHARED))
            if not mode.startswith(SHARED) or owner is None:
                break
            container = owner
        return container

    def _mode(self, container: Container) -> str:
        return self.modes.get(container.id) or container.host_config.network_mode

    def _addressed(self, container: str) -> set[str]:
        return {attached.network for attached in self._own(container) if attached.addresses}

    def _own(self, container: str) -> tuple[Attachment, ...]:
        return attachments_of(container, self.networks.values())

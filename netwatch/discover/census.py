"""Everything an engine has said so far, and the workloads that follow from it; does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from netwatch.discover.container import (
    LIVE,
    Attachment,
    Container,
    EngineNetwork,
    Image,
    Plug,
    attached,
    attachments_of,
    workload_of,
)
from netwatch.model.workload import Interface, Workload

SHARED = "container:"  # NetworkMode of a container that lives in another's network
_NO_IMAGE = Image()


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
    _made: dict[str, tuple[tuple[object, ...], Workload]] = field(default_factory=dict)
    """By container: what its workload was made of last, and the workload."""

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
        self._made = {k: v for k, v in self._made.items() if k in self.containers}

    def plugs(self) -> set[Plug]:
        """Where containers are plugged in now."""
        return {
            attachment.plug
            for container, own in attached(self.networks.values()).items()
            for attachment in own
            if attachment.plug and container in self.containers
        }

    def unread(self, container: Container) -> list[str]:
        """Networks that it joined without an event; Podman tells of none at a start."""
        known = self._addressed(container.id)
        joined = container.network_settings.networks or {}
        return [name for name in joined if name not in known]

    def workloads(self, host: str) -> tuple[Workload, ...]:
        """One for each container that runs or has an address; sharers behind their owners."""
        own = attached(self.networks.values())
        live = [
            c
            for c in self.containers.values()
            if c.state in LIVE or any(a.addresses for a in own.get(c.id, ()))
        ]
        live.sort(key=lambda c: (self._mode(c).startswith(SHARED), c.names or []))
        return tuple(self._workload(container, host, own) for container in live)

    def _workload(
        self, container: Container, host: str, own: Mapping[str, tuple[Attachment, ...]]
    ) -> Workload:
        """The same object as long as nothing of it changed: whoever compares is done at once."""
        owner = self._owner(container)
        attachments = own.get(owner.id, ())
        ends = {a.plug: self.ends[a.plug] for a in attachments if a.plug in self.ends}
        image = self.images.get(container.image_id, _NO_IMAGE)
        pid, host_network = self.pids.get(container.id), self._mode(owner) == "host"
        parts = (host, attachments, ends, pid, host_network)
        known = self._made.get(container.id)
        if known and known[0][0] is container and known[0][1] is image and known[0][2:] == parts:
            return known[1]
        made = workload_of(
            container,
            image,
            host=host,
            runtime=self.runtime,
            attachments=attachments,
            interfaces=ends,
            pid=pid,
            host_network=host_network,
        )
        self._made[container.id] = ((container, image, *parts), made)
        return made

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

"""Runs a Podman service of the tests' own: its storage, networks and socket are no one else's."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from docker.errors import APIError
from private_dockerd import ANSWER_S, Engine, eventually

# runc, because crun refuses this machine's cgroups; networks by netavark, the default.
SETTINGS = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "{networks}"
default_subnet = "198.18.64.0/24"
[containers]
log_driver = "k8s-file"
"""


class Podman(Engine):
    """`podman system service` in place of dockerd; the rest speaks the same API."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        super().__init__(folder, runtime)
        self.socket = str(runtime / "podman.sock")

    def start(self) -> None:
        """Start the service and wait until it answers."""
        settings = self.folder / "containers.conf"
        settings.write_text(SETTINGS.format(networks=self.folder / "networks"))
        with (self.folder / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "podman",
                    f"--root={self.folder / 'data'}",
                    f"--runroot={self.runtime / 'run'}",
                    f"--tmpdir={self.runtime / 'tmp'}",
                    "--storage-driver=vfs",
                    "system",
                    "service",
                    "--time=0",
                    f"unix://{self.socket}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"CONTAINERS_CONF": str(settings)},
            )
        self.client = eventually(self._answers, within=ANSWER_S, what="podman answers")

    def clean(self) -> None:
        """Remove every container and every network that is not Podman's own."""
        eventually(self._empty, what="every container is removed")
        for network in self.client.networks():
            if network["Name"] not in ("bridge", "podman"):
                self.client.remove_network(network["Name"])

    def _empty(self) -> bool:
        """Podman keeps the owner of a network that another container lives in: that one first."""
        for container in self.client.containers(all=True):
            with suppress(APIError):
                self.client.remove_container(container["Id"], force=True)
        return not self.client.containers(all=True)

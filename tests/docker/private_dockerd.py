"""Runs a dockerd of the tests' own: its data, sockets, addresses and rules are no one else's."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from netwatch.discover.engine import FAILURES, connect

APPLETS = ("cat", "date", "httpd", "ip", "ls", "nc", "sh", "sleep", "true")
ANSWER_S = 20.0


def eventually(fact: Callable[[], Any], *, within: float = 10.0, what: str = "") -> Any:
    """The first true value of `fact`; fails with what it last was when the time is over."""
    deadline = time.monotonic() + within
    while not (value := fact()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what or fact}; last seen: {value!r}")
        time.sleep(0.005)
    return value


class Engine:
    """A private dockerd; `run` starts containers in it, `clean` removes all of them."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder = folder
        self.runtime = runtime
        self.socket = str(runtime / "docker.sock")
        self.process: subprocess.Popen[bytes] | None = None
        self.client: APIClient = None

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        with (self.folder / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host=unix://{self.socket}",
                    f"--data-root={self.folder / 'data'}",
                    f"--exec-root={self.runtime / 'exec'}",
                    f"--pidfile={self.runtime / 'docker.pid'}",
                    "--bip=198.18.0.1/24",
                    "--default-address-pool=base=198.18.128.0/17,size=24",
                    "--iptables=true",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"DOCKER_RAMDISK": "1"},  # pivot_root fails on some roots
            )
        self.client = eventually(self._answers, within=ANSWER_S, what="dockerd answers")

    def _answers(self) -> APIClient | None:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.folder / "dockerd.log").read_text()[-2000:]
            pytest.fail(f"dockerd ended at once:\n{log}")
        try:
            return connect(self.socket, timeout_s=60)
        except FAILURES:  # it listens before it is sure that it will run
            return None

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End dockerd; SIGKILL leaves its containers as a crash would."""
        if self.client is not None:
            self.client.close()
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(20)
            self.process = None
        self._reap_containerd()

    def _reap_containerd(self) -> None:
        """Process 1 of tests/apart inherits it: dead and unreaped it looks alive to dockerd."""
        pid = self.runtime / "exec/containerd/containerd.pid"
        with suppress(FileNotFoundError, ChildProcessError):
            os.waitpid(int(pid.read_text()), 0)

    def load(self, name: str, changes: tuple[str, ...] = ()) -> str:
        """Make an image of busybox with these Dockerfile lines; gives its id."""
        answer = self.client.import_image_from_data(_root(), repository=name, changes=changes)
        assert "sha256:" in answer, answer
        return str(self.client.inspect_image(name)["Id"])

    def run(
        self,
        name: str,
        command: str | list[str] = "sleep 1000",
        *,
        image: str = "box",
        network: str = "bridge",
        labels: dict[str, str] | None = None,
        expose: tuple[Any, ...] = (),
        publish: dict[Any, Any] | None = None,
        start: bool = True,
        **more: Any,
    ) -> str:
        """Create and start a container; gives its id."""
        made = self.client.create_container(
            image,
            command,
            name=name,
            labels=labels,
            stop_signal="SIGKILL",  # as PID 1 busybox ignores SIGTERM, and dockerd waits 10 s
            ports=list(expose) or None,
            host_config=self.client.create_host_config(
                network_mode=network, port_bindings=publish, **more
            ),
        )
        if start:
            self.client.start(made["Id"])
        return str(made["Id"])

    def sh(self, name: str, script: str) -> tuple[int, str]:
        """Run a shell script inside a container: exit code and output."""
        made = self.client.exec_create(name, ["sh", "-c", script])
        out = self.client.exec_start(made["Id"])
        return int(self.client.exec_inspect(made["Id"])["ExitCode"]), out.decode()

    def address(self, name: str, network: str = "bridge") -> str:
        """Its IPv4 address on a network."""
        settings = self.client.inspect_container(name)["NetworkSettings"]
        return str(settings["Networks"][network]["IPAddress"])

    def clean(self) -> None:
        """Remove every container and every network that is not Docker's own."""
        for container in self.client.containers(all=True):
            self.client.remove_container(container["Id"], force=True)
        for network in self.client.networks():
            if network["Name"] not in ("bridge", "host", "none"):
                self.client.remove_network(network["Id"])


def _root() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in ("bin", "etc", "proc", "sys", "tmp", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return archive.getvalue()

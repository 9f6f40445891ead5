"""The private dockerd of the docker tests: one for the run, empty for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_dockerd import Engine
from program import Netwatch

from netwatch.discover.links import default_uplinks


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The private dockerd of this run, with the image `box` (EXPOSE 80, 53/udp) in it."""
    for program, package in (("dockerd", "docker.io"), ("busybox", "busybox-static")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    if os.geteuid() != 0:
        pytest.skip("a private dockerd needs root")
    if default_uplinks():
        pytest.skip("not apart from this machine's network: tests/apart pytest tests/docker")
    runtime = Path("/run/netwatch-dockerd")  # short: a socket's path holds 107 bytes
    runtime.mkdir(exist_ok=True)
    engine = Engine(tmp_path_factory.mktemp("dockerd"), runtime)
    engine.start()
    try:
        engine.load("box", ("EXPOSE 80 53/udp", 'LABEL tier=base "org.example.title"="The box"'))
        yield engine
        engine.clean()
    finally:
        engine.stop()
        shutil.rmtree(engine.folder, ignore_errors=True)


@pytest.fixture
def engine(dockerd: Engine) -> Iterator[Engine]:
    """The private dockerd, empty before and after each test."""
    yield dockerd
    dockerd.clean()


@pytest.fixture
def macvlan(engine: Engine) -> Iterator[str]:
    """A network of macvlan on one end of a pair that leads nowhere."""
    ip = ["ip", "link"]
    subprocess.run([*ip, "add", "mv0", "type", "veth", "peer", "name", "mv1"], check=True)
    for end in ("mv0", "mv1"):
        subprocess.run([*ip, "set", end, "up"], check=True)
    pool = [{"Subnet": "198.18.120.0/24", "IPRange": "198.18.120.16/28"}]
    engine.client.create_network(
        "lan",
        driver="macvlan",
        options={"parent": "mv0"},
        ipam={"Driver": "default", "Config": pool},
    )
    yield "lan"
    engine.clean()
    subprocess.run([*ip, "del", "mv0"], check=True)


@pytest.fixture
def netwatch(engine: Engine, tmp_path: Path) -> Iterator[Netwatch]:
    """The program for this dockerd; what it applied is removed, and it ends, after the test."""
    netwatch = Netwatch(engine, tmp_path)
    yield netwatch
    netwatch.call("host", "remove")
    netwatch.close()

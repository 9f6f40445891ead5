"""The image of deploy/, built without any network, watching its neighbours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from private_dockerd import Engine, eventually

pytestmark = pytest.mark.docker
TREE = Path(__file__).parents[2]
CACHE = Path(os.environ.get("NETWATCH_TEST_CACHE", "~/.cache/netwatch-tests")).expanduser()
PARTS = ("deploy", "netwatch", "policies", "web", "setup.cfg", "pyproject.toml", "README.md")


@pytest.fixture(scope="session")
def image(dockerd: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine with the image `netwatch` in it."""
    root, wheels = CACHE / "debian-12", CACHE / "wheels"
    if not (root.is_dir() and wheels.is_dir()):
        pytest.skip(f"no base root and wheels in {CACHE}: run tests/docker/prepare first")
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        dockerd.client.import_image_from_stream(tar.stdout, repository="debian", tag="12")
    context = tmp_path_factory.mktemp("context")
    for part in (*PARTS, "LICENSE"):
        copy = shutil.copytree if (TREE / part).is_dir() else shutil.copy
        copy(TREE / part, context / part)
    shutil.copytree(wheels, context / "wheels")
    lines = dockerd.client.build(
        path=str(context),
        dockerfile="deploy/Dockerfile",
        tag="netwatch",
        network_mode="none",
        buildargs={
            "BUILD_PACKAGES": "",
            "PIP_OPTIONS": "--no-index --find-links=/source/wheels",
        },
        rm=True,
        decode=True,
    )
    said = [line.get("stream") or line.get("error") or "" for line in lines]
    shutil.rmtree(context)
    assert dockerd.client.images("netwatch"), "".join(said)[-3000:]
    return dockerd


@pytest.fixture
def compose(image: Engine, engine: Engine) -> Iterator[list[str]]:
    """The command docker-compose for the file of deploy/, at the place of a real dockerd."""
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed: apt-get install docker-compose")
    socket = Path("/var/run/docker.sock")
    socket.symlink_to(engine.socket)
    Path("/run/xtables.lock").touch()
    command = ["docker-compose", "-f", str(TREE / "deploy/compose.yaml")]
    yield command
    subprocess.run([*command, "kill"], capture_output=True, timeout=60, check=False)
    subprocess.run([*command, "down", "-v"], capture_output=True, timeout=60, check=False)
    socket.unlink()


def ask(engine: Engine, verb: str) -> list[dict[str, Any]]:
    """What a reading verb says inside the container."""
    code, out = engine.sh("netwatch", f"netwatch {verb} --json 2>/dev/null")
    return list(json.loads(out)[verb]) if code == 0 else []


def test_the_image_watches_the_other_containers(compose: list[str], engine: Engine) -> None:
    """Workloads, documented ports and edges of its neighbours, from inside; nothing restarted."""
    engine.run("web", "httpd -f -p 80", labels={"app": "web"})
    address = engine.address("web")
    engine.run("client", ["sh", "-c", f"while nc -w 1 {address} 80 </dev/null; do sleep 1; done"])
    before = {c: engine.client.inspect_container(c)["State"] for c in ("web", "client")}
    done = subprocess.run(
        [*compose, "up", "-d", "--no-build"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = engine.client.containers(filters={"ancestor": "netwatch"})[0]["Id"]
    engine.client.rename(name, "netwatch")

    def edge() -> dict[str, Any] | None:
        for found in ask(engine, "edges"):
            ends = (found["source"]["name"], found["destination"]["name"], found["port"])
            if ends == ("client", "web", 80):
                return found
        return None

    try:
        found = eventually(edge, within=40, what="the edge client to web:80")
    except BaseException:
        print(engine.client.logs("netwatch").decode()[-3000:])
        raise
    assert found["documented"] == "image"
    known = {w["name"]: w for w in ask(engine, "workloads")}
    assert known["web"]["labels"]["app"] == "web"
    assert known["web"]["addresses"] == [address]
    assert known["netwatch"]["host_network"]
    after = {c: engine.client.inspect_container(c)["State"] for c in ("web", "client")}
    assert after == before

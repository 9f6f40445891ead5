"""An engine that hangs: what is in force stays, and what talks is still seen (F13).

Between netwatch and a real dockerd stands a socket that can be told to accept and never to answer.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from private_dockerd import Engine, eventually
from program import Netwatch

from netwatch.kernel.connect import connect
from netwatch.kernel.namespaces import path_of_pid

pytestmark = pytest.mark.docker
CALL_S, SLACK = 5.0, 3  # what is promised
POLICY = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  mode: enforce
  governs: {app: db}
  rules:
    - {from: {app: api}, ports: 80, because: orders are read by the api}
"""


class Between:
    """Hands bytes to and from dockerd, until it hangs: then it accepts, and says nothing."""

    def __init__(self, path: Path, target: str) -> None:
        self.path, self._target = str(path), target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._waiting: list[socket.socket] = []
        self._hung = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._hung.is_set():
                self._waiting.append(client)
            else:
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine, suppress(OSError):
            engine.connect(self._target)
            ends = {client: engine, engine: client}
            while not self._hung.is_set():
                for ready in select.select([*ends], [], [], 0.1)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    ends[ready].sendall(data)

    def hang(self) -> None:
        """From now on nothing is answered; what was under way ends."""
        self._hung.set()

    def answer(self) -> None:
        """Whoever waited is hung up on, and may ask again."""
        self._hung.clear()
        while self._waiting:
            self._waiting.pop().close()

    def close(self) -> None:
        self._hung.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()
        while self._waiting:
            self._waiting.pop().close()


@pytest.fixture
def between(engine: Engine, netwatch: Netwatch) -> Iterator[Between]:
    made = Between(engine.runtime / "between.sock", engine.socket)
    netwatch.environment["NETWATCH_DOCKER_SOCKET"] = made.path
    yield made
    made.answer()
    netwatch.call("host", "remove")
    netwatch.close()
    netwatch.process = None
    made.close()
    Path(made.path).unlink()


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A db, an api that may call it, and a rogue that may not, on a network of their own."""
    engine.client.create_network("back", driver="bridge")
    for app in ("db", "api", "rogue"):
        command = ["httpd", "-f", "-p", "80"] if app == "db" else "sleep 1000"
        labels = {"app": app, "com.docker.compose.project": "shop"}
        engine.run(app, command, network="back", labels=labels)
    return engine


def reaches(engine: Engine, name: str) -> bool:
    """Whether a container's call to the db gets through; asked of the engine itself, by path."""
    pid = int(engine.client.inspect_container(name)["State"]["Pid"])
    target = engine.address("db", "back")
    return connect(path_of_pid(pid), target, 80, timeout_s=0.5).result == "open"


def problem(netwatch: Netwatch) -> str:
    (host,) = netwatch.ok("hosts")["hosts"]
    return str(host["capture"]["problem"])


def test_an_engine_that_accepts_and_never_answers_opens_nothing_and_blinds_nobody(
    shop: Engine, netwatch: Netwatch, between: Between, tmp_path: Path
) -> None:
    """F13: verdicts stay, calls are still counted, each command ends in time and says why."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    netwatch.ok("host", "apply", "--policies", str(file))
    netwatch.up()
    assert reaches(shop, "api") and not reaches(shop, "rogue")
    eventually(lambda: ("api", "db", 80) in netwatch.edges(), what="the api's calls are seen")
    before = netwatch.edges()["api", "db", 80]["connections"]

    between.hang()
    eventually(lambda: "no answer" in problem(netwatch), within=20, what="the problem is told")
    assert reaches(shop, "api") and not reaches(shop, "rogue")
    eventually(
        lambda: netwatch.edges()["api", "db", 80]["connections"] > before, what="still counted"
    )
    commands = (
        ("doctor",),
        ("host", "apply", "--policies", str(file)),
        ("quarantine", "shop/rogue"),
    )
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(lambda command: netwatch.call(*command), commands))
    assert time.monotonic() - began < CALL_S * SLACK
    for command, (code, answer) in zip(commands, told, strict=True):
        assert "no answer" in str(answer), command
        assert code == 1 or command == ("doctor",), (command, answer)
    assert reaches(shop, "api") and not reaches(shop, "rogue")
    alerts = {alert["detector"] for alert in netwatch.ok("alerts")["alerts"]}
    assert "silent-agent" not in alerts, "the agent is there"

    between.answer()
    eventually(lambda: problem(netwatch) == "None", within=20, what="it answers again")
    assert netwatch.call("host", "verify")[0] == 0
    assert reaches(shop, "api") and not reaches(shop, "rogue")

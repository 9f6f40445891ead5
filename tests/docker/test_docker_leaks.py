"""Fifty containers dial out with their first instruction: what may not, does not, not once.

The agent wins a race on `network connect`; beneath it a network that fails closed drops whoever is
not known. Elsewhere a container that nobody watched gets out, and that is counted and told.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from private_dockerd import Engine, eventually
from program import Netwatch

from netwatch.kernel.namespaces import path_of_pid, socket_inside

pytestmark = pytest.mark.docker
STARTS = 50
BLIND = 15  # of them without an agent too: nothing there races
PORT = 5432
DB = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  mode: enforce
  governs: {app: db}
  rules:
    - {from: {app: api}, ports: 5432, because: orders are read by the api}
"""
WORKER = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: worker, namespace: shop}
spec: {mode: enforce, governs: {app: worker}, egress: isolated}
"""
# three calls as fast as a shell can make them, the first by its first command; a dropped SYN is
# sent again after a second
DIAL = "for i in 1 2 3; do nc -w {patience_s} {address} {port} </dev/null; done; {then}"


@contextmanager
def counting(engine: Engine, name: str) -> Iterator[list[str]]:
    """A server in a container's namespace; who called, call by call."""
    place = path_of_pid(int(engine.client.inspect_container(name)["State"]["Pid"]))
    listener = socket_inside(place, socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(256)
    callers: list[str] = []

    def accept() -> None:
        while True:
            try:
                connection, (address, _) = listener.accept()
            except OSError:
                return
            callers.append(address)
            connection.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield callers
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        listener.close()


def labels(app: str) -> dict[str, str]:
    return {"app": app, "com.docker.compose.project": "shop"}


@pytest.fixture
def db(engine: Engine) -> Engine:
    """The server `db` on a network of its own name's kind: `back`."""
    engine.client.create_network("back", driver="bridge")
    engine.run("db", network="back", labels=labels("db"))
    return engine


def made(
    engine: Engine, app: str, number: int, *, then: str = "true", patience_s: int = 1
) -> list[str]:
    """So many containers that will dial the db; what they do after that is `then`."""
    address = engine.address("db", "back")
    dial = DIAL.format(address=address, port=PORT, then=then, patience_s=patience_s)
    names = [f"{app}-{n}" for n in range(number)]
    for name in names:
        command = ["sh", "-c", dial]
        engine.run(name, command, network="back", labels=labels(app), start=False)
    return names


def dialled(engine: Engine, names: list[str]) -> None:
    """Start them, two at any time, and wait for their calls to end."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(engine.client.start, names))
    for name in names:
        eventually(lambda name=name: _has_dialled(engine, name), what=f"{name} has dialled")


def _has_dialled(engine: Engine, name: str) -> bool:
    """It has ended, or its shell has become `sleep`."""
    pid = engine.client.inspect_container(name)["State"]["Pid"]
    if not pid:
        return True
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")
    return False


def applied(netwatch: Netwatch, text: str) -> None:
    file = netwatch.folder / "policy.yaml"
    file.write_text(text)
    netwatch.ok("host", "apply", "--policies", str(file))


def test_nobody_leaks_on_a_network_that_fails_closed(db: Engine, netwatch: Netwatch) -> None:
    """Calls of 50 containers that may not: without the agent, and once more beside it.

    Not known, they are dropped; known, they are refused; and an api's calls arrive, all of them.
    """
    applied(netwatch, DB)
    rogues = made(db, "rogue", STARTS)
    with counting(db, "db") as callers:
        dialled(db, rogues[:BLIND])
        assert callers == [], "no agent was there"
        netwatch.up()
        dialled(db, rogues)
        assert callers == [], "the agent was there"
        dialled(db, made(db, "api", 1, patience_s=5))
        assert len(callers) == 3


def escaped(netwatch: Netwatch) -> int:
    """What `netwatch hosts` shows."""
    (host,) = netwatch.ok("hosts")["hosts"]
    return int(host["enforcement"]["totals"].get("escaped", 0))


def test_elsewhere_whoever_got_out_is_counted_and_named(db: Engine, netwatch: Netwatch) -> None:
    """The network is not closed before somebody on it is governed, and nobody watches."""
    applied(netwatch, WORKER)
    with counting(db, "db") as callers:
        workers = made(db, "worker", 5, then="exec sleep 1000")
        dialled(db, workers)
        assert len(callers) == 15, "so there is something to be told"
        netwatch.up()
        eventually(lambda: escaped(netwatch) == 15, within=20, what="each is counted")
        told = re.findall(
            r"escaped, and cut: shop/(worker-\d) \(([0-9.]+)\) -> shop/db",
            (netwatch.folder / "up.log").read_text(),
        )
        assert sorted(told) == sorted((w, db.address(w, "back")) for w in workers for _ in "123")
        assert netwatch.ok("host", "denials", "--totals")["totals"]["escaped"] == 15
        for name in workers:
            assert db.sh(name, f"nc -w 1 {db.address('db', 'back')} {PORT} </dev/null")[0] != 0
            db.client.remove_container(name, force=True)
        del callers[:]
        dialled(
            db, made(db, "worker", 1)
        )  # nobody on the network is governed again, but it is watched
        eventually(
            lambda: escaped(netwatch) == 15 + len(callers), what="what got out is what is counted"
        )

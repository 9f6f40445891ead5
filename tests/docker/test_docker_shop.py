"""The spine under a real dockerd: six containers on two networks, seen, governed, undisturbed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from private_dockerd import Engine, eventually
from program import Netwatch

pytestmark = pytest.mark.docker
POLICY = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec:
  mode: enforce
  governs: {app: db}
  rules:
    - from: {app: api}
      ports: 5432
      because: orders are read and written by the api
---
apiVersion: netwatch/v1
kind: Segment
metadata: {name: web, namespace: shop}
spec:
  mode: enforce
  governs: {app: web}
  rules:
    - from: {app: edge}
      ports: 80
      because: customers come in by the edge
"""


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """edge, web on front; web, api, db, cache, rogue on back, which has IPv6 too."""
    engine.load("db", ("EXPOSE 5432",))
    pool = [{"Subnet": "198.18.200.0/24"}, {"Subnet": "2001:db8:9::/64"}]
    engine.client.create_network("front", driver="bridge")
    engine.client.create_network(
        "back", driver="bridge", enable_ipv6=True, ipam={"Driver": "default", "Config": pool}
    )

    def run(name: str, network: str, serve: int = 0, image: str = "box") -> None:
        labels = {"app": name, "com.docker.compose.project": "shop"}
        command = f"httpd -f -p [::]:{serve}" if serve else "sleep 1000"
        engine.run(name, command, image=image, network=network, labels=labels)

    run("edge", "front")
    run("web", "front", 80)
    engine.client.connect_container_to_network("web", "back")
    run("api", "back", 8080)
    run("db", "back", 5432, "db")
    run("cache", "back", 80)
    run("rogue", "back")
    return engine


def connects(engine: Engine, client: str, address: str, port: int) -> bool:
    code, _ = engine.sh(client, f"nc -w 2 {address} {port} </dev/null")
    return code == 0


def addresses(engine: Engine, name: str, network: str) -> tuple[str, str]:
    settings = engine.client.inspect_container(name)["NetworkSettings"]["Networks"][network]
    return settings["IPAddress"], settings["GlobalIPv6Address"]


def test_edges_say_who_speaks_and_who_wrote_the_port_down(
    shop: Engine, netwatch: Netwatch
) -> None:
    """Exactly the calls that were made, each with the source of its documentation."""
    netwatch.up()
    calls = [
        ("edge", "web", "front", 80),
        ("web", "api", "back", 8080),
        ("api", "db", "back", 5432),
    ]
    for client, server, network, port in calls:
        address, _ = addresses(shop, server, network)
        assert connects(shop, client, address, port)
    _, six = addresses(shop, "cache", "back")
    assert connects(shop, "api", six, 80)
    expected = {(c, s, p) for c, s, _, p in calls} | {("api", "cache", 80)}
    deadline = time.monotonic() + 20
    while (found := netwatch.edges()).keys() != expected and time.monotonic() < deadline:
        continue
    assert found.keys() == expected
    documented = {server: edge["documented"] for (_, server, _), edge in found.items()}
    assert documented == {"web": "image", "api": None, "db": "image", "cache": "image"}


def facts(shop: Engine) -> dict[str, bool]:
    """Which of seven connects succeed now, with the addresses of now."""
    db4, db6 = addresses(shop, "db", "back")
    web4, _ = addresses(shop, "web", "front")
    cache4, cache6 = addresses(shop, "cache", "back")
    return {
        "api>db": connects(shop, "api", db4, 5432),
        "api>db on IPv6": connects(shop, "api", db6, 5432),
        "edge>web": connects(shop, "edge", web4, 80),
        "rogue>cache": connects(shop, "rogue", cache4, 80),
        "rogue>cache on IPv6": connects(shop, "rogue", cache6, 80),
        "rogue>db": connects(shop, "rogue", db4, 5432),
        "rogue>db on IPv6": connects(shop, "rogue", db6, 5432),
    }


def refused(shop: Engine) -> set[str]:
    return {name for name, open_ in facts(shop).items() if not open_}


DENIED = {"rogue>db", "rogue>db on IPv6"}


def test_apply_blocks_what_is_not_listed_and_nothing_else(
    shop: Engine, netwatch: Netwatch
) -> None:
    """Seen by real connects, on both families; removing leaves the rules as they were."""
    policy = netwatch.folder / "shop.yaml"
    policy.write_text(POLICY)
    before = _rules()
    assert refused(shop) == set()
    netwatch.ok("host", "apply", "--policies", str(policy))
    assert refused(shop) == DENIED
    assert netwatch.call("host", "verify")[0] == 0
    netwatch.ok("host", "remove")
    assert refused(shop) == set()
    assert _rules() == before


def test_identity_and_policy_follow_a_container_to_another_address(
    shop: Engine, netwatch: Netwatch
) -> None:
    """With the agent running nobody applies again; who takes the old address inherits nothing."""
    policy = netwatch.folder / "shop.yaml"
    policy.write_text(POLICY)
    netwatch.up()
    netwatch.ok("host", "apply", "--policies", str(policy))
    old = addresses(shop, "api", "back")
    shop.client.kill("api")
    shop.run("squatter", network="back")
    shop.client.start("api")
    assert addresses(shop, "api", "back") != old
    assert addresses(shop, "squatter", "back")[0] == old[0]
    eventually(lambda: refused(shop) == DENIED, within=20, what="the policy follows api")
    assert not connects(shop, "squatter", addresses(shop, "db", "back")[0], 5432)
    known = {w["name"]: w for w in netwatch.ok("workloads")["workloads"]}
    assert known["api"]["id"] == "alpha/shop/api"
    eventually(lambda: netwatch.call("host", "verify")[0] == 0, within=20, what="no drift")


def test_a_new_container_is_governed_from_its_first_packet(
    shop: Engine, netwatch: Netwatch
) -> None:
    """Five starts: its first instructions connect; what is denied never succeeds, not once."""
    policy = netwatch.folder / "shop.yaml"
    policy.write_text(POLICY)
    netwatch.up()
    netwatch.ok("host", "apply", "--policies", str(policy))
    db = addresses(shop, "db", "back")[0]
    attempts = ["sh", "-c", f"for i in 1 2 3; do nc -w 1 {db} 5432 </dev/null && echo open; done"]

    def opened(name: str) -> int:
        shop.client.wait(name)
        return int(shop.client.logs(name).count(b"open"))

    def start(app: str) -> list[str]:
        names = [f"{app}-{number}" for number in range(5)]
        labels = {"app": app, "com.docker.compose.project": "shop"}
        for name in names:
            shop.run(name, attempts, network="back", labels=labels)
        return names

    rogues = start("rogue")  # each of their calls is waited for in vain
    assert [opened(name) for name in start("api")] == [3] * 5
    assert [opened(name) for name in rogues] == [0] * 5


def _rules() -> list[str]:
    """Every rule of both families, without counters and comments."""
    return [
        line.partition(" [")[0]
        for program in ("iptables-save", "ip6tables-save")
        for line in subprocess.check_output([program], text=True).splitlines()
        if not line.startswith("#")
    ]


def test_installed_beside_live_sessions_it_changes_none(
    engine: Engine, netwatch: Netwatch
) -> None:
    """dockerd's process, each StartedAt and each session are as before; the edges are shown."""
    pairs = [(f"client-{n}", f"server-{n}") for n in range(5)]
    for client, server in pairs:
        engine.run(server, "nc -ll -p 7 -e cat", labels={"app": "server"})
        talk = f"while sleep 0.2; do echo x; done | nc {engine.address(server)} 7 > /tmp/heard"
        engine.run(client, ["sh", "-c", talk], labels={"app": "client"})

    def heard(client: str) -> int:
        return int(engine.sh(client, "ls -l /tmp/heard")[1].split()[4])

    def state() -> dict[str, Any]:
        assert engine.process is not None
        listed = [engine.client.inspect_container(n)["State"] for pair in pairs for n in pair]
        return {"dockerd": engine.process.pid, "containers": listed}

    eventually(lambda: all(heard(client) for client, _ in pairs), what="every session talks")
    before = state()
    netwatch.up()
    expected = {(client, server, 7) for client, server in pairs}
    eventually(
        lambda: expected <= netwatch.edges().keys(), within=20, what="the edges of old sessions"
    )
    policy = netwatch.folder / "echo.yaml"
    policy.write_text(
        "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {name: echo, namespace: default}\n"
        "spec:\n  mode: enforce\n  governs: {app: server}\n  rules:\n"
        "    - {from: {app: client}, ports: 7, because: echo}\n"
    )
    netwatch.ok("host", "apply", "--policies", str(policy))
    _all_go_on(heard, [client for client, _ in pairs])
    netwatch.ok("host", "remove")
    netwatch.close()
    _all_go_on(heard, [client for client, _ in pairs])
    assert state() == before


def _all_go_on(heard: Callable[[str], int], clients: list[str]) -> None:
    """Each session echoes at least three more lines."""
    marks = {client: heard(client) for client in clients}
    eventually(
        lambda: all(heard(client) >= mark + 6 for client, mark in marks.items()),
        what="every session goes on",
    )

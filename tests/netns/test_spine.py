"""From a packet between two workloads to the map, the alert and the rule: on real traffic."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from standardwebhooks import Webhook

from tests.netns.conftest import SHOP, Said, run_netwatch
from tests.netns.running import Up

pytestmark = pytest.mark.netns

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Edge = tuple[str, str, str, int]


def shop_calls() -> set[Edge]:
    """What the lab file says will be called; the agents never read it."""
    lab = YAML(typ="safe").load(SHOP.read_text())
    return {
        (w["name"], call["to"], "udp" if call.get("with") == "udp" else "tcp", call["port"])
        for w in lab["workloads"]
        for call in w.get("calls", ())
    }


def seen(edges: list[dict[str, Any]]) -> dict[Edge, dict[str, Any]]:
    """Edges by the names of their ends; what lies outside the hosts is called internet."""

    def name(end: dict[str, Any]) -> str:
        return "internet" if end["kind"] == "external" else str(end["name"])

    found = {
        (name(e["source"]), name(e["destination"]), e["protocol"], e["port"]): e for e in edges
    }
    assert len(found) == len(edges), "two edges have one key"
    return found


class Receiver:
    """A real webhook receiver: refuses the first `down` messages, verifies all others."""

    def __init__(self, *, down: int = 0) -> None:
        self.accepted: list[dict[str, Any]] = []
        self.forged = 0
        self.down = down
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(dict(self.headers.items()), body))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        if self.down > 0:
            self.down -= 1
            return 503
        try:
            Webhook(SECRET).verify(body.decode(), {k.lower(): v for k, v in headers.items()})
        except Exception:
            self.forged += 1
            return 400
        self.accepted.append(json.loads(body))
        return 204


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv("NETWATCH_WEBHOOK_URL", made.url)
    monkeypatch.setenv("NETWATCH_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("NETWATCH_WEBHOOK_ALLOW_PRIVATE", "1")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[Said, Receiver, dict[str, set[str]]]]:
    """One run of the demo for all that is told of it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        receiver = Receiver(down=1)
        monkeypatch.setenv("NETWATCH_WEBHOOK_URL", receiver.url)
        monkeypatch.setenv("NETWATCH_WEBHOOK_SECRET", SECRET)
        monkeypatch.setenv("NETWATCH_WEBHOOK_ALLOW_PRIVATE", "1")
        before = left_behind()
        said = run_netwatch("demo", "--once", "--json", deadline_s=90)
        after = left_behind()
        yield said, receiver, {what: after[what] - before[what] for what in after}
        receiver.server.shutdown()
        receiver.server.server_close()


def left_behind() -> dict[str, set[str]]:
    """What a run could leave: namespaces, processes, files, interfaces."""
    processes = {
        f"{pid} {Path('/proc', pid, 'cmdline').read_bytes()!r}"
        for pid in os.listdir("/proc")
        if pid.isdecimal() and b"netwatch" in _cmdline(pid)
    }
    return {
        "namespaces": set(os.listdir("/run/netns")),
        "processes": processes,
        "files": {str(p) for p in Path("/run/netwatch").rglob("*")}
        | {str(p) for p in Path("/tmp").glob("netwatch-demo-*")},
        "interfaces": {name for _, name in socket.if_nameindex()},
    }


def _cmdline(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


Demo = tuple[Said, Receiver, dict[str, set[str]]]


def test_the_demo_shows_every_call_and_invents_none(demo: Demo) -> None:
    """The edges are the lab file's calls exactly, without the agents ever reading them."""
    said = demo[0]
    assert said.code == 0, said.err

    assert shop_calls() == set(seen(said.json["edges"]))


def test_the_demo_knows_how_each_edge_is_encrypted(demo: Demo) -> None:
    """TLS 1.3, TLS 1.2, plaintext, and unknown where the bytes prove nothing."""
    found = {
        key: (edge["encryption"]["status"], edge["encryption"]["versions"])
        for key, edge in seen(demo[0].json["edges"]).items()
    }
    expected = {
        ("edge", "web", "tcp", 443): ("encrypted", ["TLSv1.3"]),
        ("edge", "internet", "tcp", 443): ("encrypted", ["TLSv1.3"]),
        ("api", "pay", "tcp", 443): ("encrypted", ["TLSv1.2"]),
        ("pay", "pay-db", "tcp", 5433): ("encrypted", ["TLSv1.2"]),
        ("metrics", "api", "tcp", 9100): ("plaintext", []),
        ("report", "worker", "tcp", 8089): ("plaintext", []),
        ("api", "db", "tcp", 5432): ("unknown", []),
    }

    assert expected == {key: found[key] for key in expected}


def test_the_demo_raises_each_planted_alert_once_and_no_other(demo: Demo) -> None:
    """One undocumented port, one plaintext conversation across hosts; documented ports none."""
    alerts = demo[0].json["alerts"]

    assert sorted(a["detector"] for a in alerts) == ["plaintext-across-hosts", "undocumented-port"]
    assert all(a["evidence"] for a in alerts)


def test_the_receiver_gets_each_alert_once_though_it_was_down(demo: Demo) -> None:
    """It refused the first message; still every alert arrived, signed, and only once."""
    said, receiver, _left = demo
    opened = [m["data"]["id"] for m in receiver.accepted if m["type"] == "alert.opened"]

    assert sorted(opened) == sorted(a["id"] for a in said.json["alerts"])
    assert receiver.forged == 0


def test_the_policy_stops_the_rogue_and_nothing_else(demo: Demo) -> None:
    """Real connects before and after, on IPv4 and IPv6."""
    policy = demo[0].json["policy"]
    rogue = [c for c in policy["after"] if c["source"] == "rogue"]
    others = [c for c in policy["after"] if c["source"] != "rogue"]

    assert {c["result"] for c in policy["before"]} == {"open"}
    assert {c["family"] for c in rogue} == {4, 6}
    assert all(c["result"] in ("refused", "filtered") for c in rogue), rogue
    assert {c["result"] for c in others} == {"open"}, others


def test_the_demo_leaves_nothing_behind(demo: Demo) -> None:
    """No namespace, no process, no interface, no file."""
    assert not any(demo[2].values()), demo[2]


def test_connects_that_no_file_names_are_seen_exactly(
    lab: Callable[..., Said], up: Callable[..., Up]
) -> None:
    """Twenty random connects of quiet workloads: each an edge, counted as often as made."""
    ports = {"a1": 7001, "a2": 7002, "b1": 7003, "b2": 7004}
    lab(
        json.dumps(
            {
                "hosts": ["a", "b"],
                "workloads": [
                    {
                        "name": name,
                        "host": name[0],
                        "listen": [
                            {"port": port, "protocol": protocol, "serve": "echo"}
                            for protocol in ("tcp", "udp")
                        ],
                    }
                    for name, port in ports.items()
                ],
            }
        )
    )
    running = up()
    running.ready()
    seed = int(os.environ.get("SEED", "20261122"))
    chosen = random.Random(seed)
    made: dict[Edge, int] = {}
    for _ in range(20):
        source, target = chosen.sample(sorted(ports), 2)
        protocol, family = chosen.choice(("tcp", "udp")), chosen.choice(("4", "6"))
        arguments = [source, target, str(ports[target]), "--family", family]
        said = run_netwatch("lab", "connect", *arguments, *(["--udp"] * (protocol == "udp")))
        assert said.code == 0, (seed, said.out)
        edge = (source, target, protocol, ports[target])
        made[edge] = made.get(edge, 0) + 1

    def counted() -> dict[Edge, int]:
        return {
            key: edge["connections"]
            for key, edge in seen(running.get("edges?limit=1000")["edges"]).items()
        }

    running.wait(lambda: counted() == made, f"seed {seed}: {counted()} is not {made}")


def test_an_agent_that_stops_is_missed(lab: Callable[..., Said], up: Callable[..., Up]) -> None:
    """A host that does not report any more is called silent; the other is not."""
    lab("{hosts: [a, b], workloads: [{name: w, host: a}, {name: v, host: b}]}")
    running = up()
    running.ready()
    victim = next(
        int(pid)
        for pid in os.listdir("/proc")
        if pid.isdecimal() and b"netwatch\0agent" in _cmdline(pid)
    )
    os.kill(victim, 9)

    def alerts() -> list[str]:
        return [a["detector"] for a in running.get("alerts")["alerts"]]

    running.wait(lambda: alerts() == ["silent-agent"], "nobody noticed", deadline_s=120)
    assert sorted(h["silent"] for h in running.get("hosts")["hosts"]) == [False, True]

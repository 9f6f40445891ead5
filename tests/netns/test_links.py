"""Link encryption on the wire: wireguard-go carries what two hosts say to each other."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from netwatch.discover.links import way_out
from netwatch.discover.tunnels import read_links
from netwatch.kernel.namespaces import inside
from netwatch.model.link import SecurityPolicy, Template
from netwatch.model.times import rfc3339
from tests.netns.bridges import A6, C6, HOST, OUT, A, C, Net, at, v4
from tests.netns.conftest import Said
from tests.netns.running import Up

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not shutil.which("wireguard-go"), reason="wireguard-go is not installed"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="there is no /dev/net/tun"),
]

LAB = """
hosts: [a, b]
namespaces: {shop: {}}
workloads:
  - {name: web, host: a, namespace: shop, addresses: [198.18.1.10], labels: {app: web},
     calls: [{to: db, port: 80, every: 0.3, with: http}]}
  - {name: db, host: b, namespace: shop, addresses: [198.18.2.10], labels: {app: db},
     listen: [{port: 80, protocol: tcp, name: http, serve: http}]}
"""
SUBNETS = {"a": "198.18.1.0/24", "b": "198.18.2.0/24"}
PORTS = {"a": 51_820, "b": 51_821}


class Tunnel:
    """One end of a WireGuard tunnel between the two hosts, by the documented protocol."""

    def __init__(self, host: str) -> None:
        self.host, self.interface = host, f"wg{host}"
        self.key = X25519PrivateKey.generate()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", f"nwh-{host}", "wireguard-go", "-f", self.interface],
            env=os.environ | {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while self.address() is None or not self.socket.exists():
            assert time.monotonic() < deadline, "wireguard-go makes no interface"
            time.sleep(0.05)

    @property
    def socket(self) -> Path:
        return Path(f"/var/run/wireguard/{self.interface}.sock")

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def address(self) -> str | None:
        """The address of the host on the underlay, once the interface is there."""
        links = json.loads(in_host(self.host, "ip", "-j", "addr"))
        if self.interface not in {link["ifname"] for link in links}:
            return None
        found = (a["local"] for link in links for a in link["addr_info"])
        return next(a for a in found if a.startswith("192.0.2."))

    def join(self, other: Tunnel) -> None:
        """Let the other host's workloads through, and send them packets that way."""
        said = (
            f"set=1\nprivate_key={self.key.private_bytes_raw().hex()}\n"
            f"listen_port={PORTS[self.host]}\npublic_key={other.public.hex()}\n"
            f"endpoint={other.address()}:{PORTS[other.host]}\n"
            f"allowed_ip={SUBNETS[other.host]}\n\n"
        )
        with socket.socket(socket.AF_UNIX) as spoken:
            spoken.connect(os.fspath(self.socket))
            spoken.sendall(said.encode())
            assert spoken.recv(64) == b"errno=0\n\n"
        in_host(self.host, "ip", "link", "set", self.interface, "up")
        for half in ip_network(SUBNETS[other.host]).subnets():  # before the wire's own route
            in_host(self.host, "ip", "route", "add", str(half), "dev", self.interface)

    def leave(self) -> None:
        """The interface goes, and its route with it."""
        self.process.terminate()
        self.process.wait(10)


def in_host(host: str, *command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", f"nwh-{host}", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tunnels(lab: Callable[[str], object]) -> Iterator[tuple[Tunnel, Tunnel]]:
    lab(LAB)
    ends = Tunnel("a"), Tunnel("b")
    ends[0].join(ends[1])
    ends[1].join(ends[0])
    yield ends
    for end in ends:
        end.leave()


def edge(up: Up, since: str | None = None) -> dict[str, Any] | None:
    """The edge from web to db, of flows since then."""
    period = f"&since={since}" if since else ""
    found = up.get(f"edges?port=80{period}")["edges"]
    return next((e for e in found if e["destination"]["name"] == "db"), None)


def shaken(up: Up) -> bool:
    """Both hosts report a handshake: calls from before that were carried by nobody."""
    links = [host["links"]["wireguard"] for host in up.get("hosts")["hosts"]]
    peers = [peer for each in links for interface in each for peer in interface["peers"]]
    return len(peers) == 2 and all(peer["handshake"] for peer in peers)


def told(up: Up, protection: str, since: str | None = None) -> Callable[[], bool]:
    def fact() -> bool:
        found = edge(up, since)
        return found is not None and found["protection"] == protection

    return fact


def plaintext_alerts(up: Up) -> list[dict[str, Any]]:
    found = up.get("alerts?state=open")["alerts"]
    return [alert for alert in found if alert["detector"] == "plaintext-across-hosts"]


def test_plain_http_through_wireguard_is_protected_by_the_link_and_not_without(
    tunnels: tuple[Tunnel, Tunnel], up: Callable[..., Up]
) -> None:
    """Both hosts see fresh handshakes and count both directions inside; nothing is found. When
    the tunnel is gone and the same calls go over the bare wire, that is told and found.
    """
    running = up()
    running.ready()
    running.wait(lambda: shaken(running), "no handshake is told", deadline_s=60)
    since = rfc3339(time.time_ns())
    running.wait(told(running, "link", since), "the link is not told as proven", deadline_s=60)

    def spoken() -> bool:
        """Of a call that is under way the first bytes may not be told yet."""
        found = edge(running, since)
        assert found is not None and found["link"] == {"status": "proven", "kind": "wireguard"}
        return (found["encryption"]["status"], found["states"]) == ("plaintext", ["established"])

    running.wait(spoken, "it is not told as plain HTTP")

    def answered() -> list[dict[str, Any]]:
        """Not those that were called before the tunnel stood."""
        flows = running.get("flows?port=80&reporter=client")["flows"]
        return [f for f in flows if f["client_packets"] and f["server_packets"]]

    running.wait(lambda: bool(answered()), "the client's host tells of no answer")
    flow = answered()[-1]
    assert flow["link"]["through"] == "wga"
    assert "handshake with peer" in flow["link"]["reason"]
    hosts = {host["host"]: host for host in running.get("hosts")["hosts"]}
    assert "wga" in hosts["a"]["capture"]["interfaces"]
    (peer,) = hosts["a"]["links"]["wireguard"][0]["peers"]
    assert base64.b64encode(tunnels[1].public).decode().startswith(peer["key"])
    assert peer["allowed"] == [SUBNETS["b"]] and peer["handshake"] is not None
    assert plaintext_alerts(running) == []

    for end in tunnels:
        end.leave()
    bare = rfc3339(time.time_ns())
    running.wait(told(running, "neither", bare), "the bare wire is not told")
    running.wait(lambda: bool(plaintext_alerts(running)), "plaintext is not found")


POLICY = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: web, namespace: shop}
spec:
  governs: app=web
  mode: enforce
  rules:
    - {to: app=db, ports: 80, require: link-encrypted, because: it is plain HTTP}
"""


def test_a_rule_for_encrypted_links_opens_with_the_tunnel_and_closes_without(
    tunnels: tuple[Tunnel, Tunnel], netwatch: Callable[..., Said], tmp_path: Path
) -> None:
    """The same documents, compiled for what the kernel says of the link at that moment."""
    policy = tmp_path / "web.yaml"
    policy.write_text(POLICY)
    program = [sys.executable, "-m", "netwatch"]

    def connected() -> str:
        asked = netwatch("lab", "connect", "web", "db", "80", "--timeout", "1", "--json")
        return str(asked.json["result"])

    def applied() -> None:
        apply = [*program, "host", "apply", "--policies", str(policy)]
        said = netwatch("lab", "exec", "a", "--", *apply)
        assert said.code == 0, said.err

    deadline = time.monotonic() + 30
    while connected() != "open":  # that makes the two ends shake hands
        assert time.monotonic() < deadline, "the tunnel carries nothing"
    applied()
    assert connected() == "open"
    for end in tunnels:
        end.leave()
    applied()
    assert connected() == "filtered"
    assert netwatch("lab", "exec", "a", "--", *program, "host", "remove").code == 0


def test_ipsec_policies_are_read_from_the_kernel(net: Net) -> None:
    """As `ip xfrm` set them, of both families. States need ESP, which this kernel may lack: they
    are fixture-proven in the unit tests.
    """
    ours = "src 198.18.0.0/24 dst 198.18.5.0/24 dir out priority 7"
    template = "src 198.18.0.1 dst 198.18.0.9 proto esp reqid 5 mode tunnel"
    other = "src 2001:db8::/64 dst ::/0 proto tcp dport 80 dir fwd action block mark 5 mask 255"
    at(HOST, *f"ip xfrm policy add {ours} tmpl {template}".split())
    at(HOST, *f"ip xfrm policy add {other}".split())
    try:
        links = inside(net.path, lambda: read_links(1))
    finally:
        at(HOST, "ip", "xfrm", "policy", "flush")
    assert links.problem is None
    assert set(links.policies) == {
        SecurityPolicy(
            "out",
            "198.18.0.0/24",
            "198.18.5.0/24",
            7,
            templates=(Template("198.18.0.1", "198.18.0.9", "esp", "tunnel", 5),),
        ),
        SecurityPolicy(
            "fwd",
            "2001:db8::/64",
            "::/0",
            protocol=6,
            destination_port=80,
            blocks=True,
            mark=(5, 255),
        ),
    }


@pytest.mark.parametrize(
    ("source", "destination", "bridge", "way"),
    [
        pytest.param(v4(0, 1), C, None, "br1", id="from the host itself"),
        pytest.param(A, C, "br0", "br1", id="from a bridge"),
        pytest.param(A6, C6, "br0", "br1", id="IPv6"),
        pytest.param(A, OUT, "br0", "hnwt-out", id="by the uplink"),
        pytest.param(A, "203.0.113.77", "br0", None, id="no route"),
        pytest.param(A, C, None, None, id="not the host's own address"),
        pytest.param(A, C, "gone", None, id="the bridge went"),
    ],
)
def test_the_way_out_follows_the_routes_of_this_moment(
    net: Net, source: str, destination: str, bridge: str | None, way: str | None
) -> None:
    assert inside(net.path, lambda: way_out(source, destination, bridge=bridge)) == way

"""What a SYN can not answer, in the kernel: egress by DNS name, and broken obligations."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.conftest import Said
from tests.netns.running import Up
from tests.netns.test_enforce import call, host, inside

pytestmark = pytest.mark.netns

DNS = "198.18.1.13"
API = {4: "198.18.1.11", 6: "2001:db8:1::11"}
WEB = {4: "198.18.1.10", 6: "2001:db8:1::10"}
OUTSIDE = {4: "203.0.113.10", 6: "2001:db8:ffff::10"}
# Each backend with each family, in two runs.
WAYS = pytest.mark.parametrize(
    ("backend", "family"),
    [pytest.param("nft", 4, id="nft-ipv4"), pytest.param("legacy", 6, id="legacy-ipv6")],
)
PROMISE_S = 3.0  # three times the second that is promised
LAB = """
hosts: [a]
namespaces: {shop: {}}
internet: {listen: [{port: 80, serve: echo}, {port: 81, serve: echo}]}
workloads:
  - {name: web, host: a, namespace: shop, labels: {app: web},
     addresses: [198.18.1.10, "2001:db8:1::10"]}
  - {name: api, host: a, namespace: shop, labels: {app: api},
     addresses: [198.18.1.11, "2001:db8:1::11"]}
  - {name: dns, host: a, namespace: shop, labels: {app: dns},
     addresses: [198.18.1.13, "2001:db8:1::13"]}
"""
SEGMENT = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: web, namespace: shop}
spec:
  mode: enforce
  governs: {app: web}
  rules:
    - {to: {app: dns}, ports: [53/udp, 53/tcp], because: names}
    - {to: api.example.com, ports: 80, because: orders}
    - {to: "*.tcp.test", ports: 81, because: asked for over TCP}
    - {to: {app: api}, ports: 443, require: encrypted, because: secrets}
"""
# A name server: the question back, with one address. Over UDP and over TCP.
SERVER = """
import socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
address, ttl = socket.inet_pton(family, sys.argv[1]), int(sys.argv[2])
kind = b"\\0\\x1c" if len(address) == 16 else b"\\0\1"
def answer(asked):
    head = asked[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
    head += asked[12:] + b"\\xc0\\x0c" + kind + b"\\0\\1" + ttl.to_bytes(4, "big")
    return head + len(address).to_bytes(2, "big") + address
def tcp():
    door = socket.create_server(("0.0.0.0", 53))
    while True:
        link, _ = door.accept()
        said = answer(link.recv(512)[2:])
        link.sendall(len(said).to_bytes(2, "big") + said)
        link.close()
threading.Thread(target=tcp, daemon=True).start()
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    asked, client = link.recvfrom(512)
    link.sendto(answer(asked), client)
"""
# Asks for a name, and connects to what it is told, in one blocking call, as programs do.
CLIENT = """
import socket, sys, time
server, name, port, how, family, patience = sys.argv[1:7]
labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
form, size, kind = (socket.AF_INET6, 16, 28) if family == "6" else (socket.AF_INET, 4, 1)
asked = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels + bytes([0, 0, kind, 0, 1])
kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
link = socket.socket(socket.AF_INET, kind)
link.settimeout(5)
link.connect((server, 53))
link.send(len(asked).to_bytes(2, "big") + asked if how == "tcp" else asked)
address = socket.inet_ntop(form, link.recv(512)[-size:])
begun = time.monotonic()
try:
    socket.create_connection((address, int(port)), timeout=float(patience)).close()
    print(time.monotonic() - begun)
except OSError as error:
    print(type(error).__name__)
"""


# One port that takes both: TLS to whom begins with a handshake, else an echo.
BOTH = """
import socket, ssl, sys, threading, time
from netwatch.lab.certificate import make
from netwatch.lab.servers import server_context
context = server_context("1.3", make("api", [sys.argv[1]], now=time.time_ns()))
def serve(link):
    try:
        if link.recv(1, socket.MSG_PEEK) == b"\\x16":
            link = context.wrap_socket(link, server_side=True)
        while said := link.recv(4096):
            link.sendall(said)
    except OSError:
        pass
door = socket.create_server(("::", 443), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()
"""
# Speaks every tenth of a second until it is cut.
TALK = """
import socket, ssl, sys, time
link = socket.create_connection((sys.argv[1], 443), timeout=3)
said = b"GET / HTTP/1.1\\r\\nHost: api\\r\\n\\r\\n"
if sys.argv[2] == "tls":
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link = context.wrap_socket(link)
try:
    while True:
        link.sendall(said)
        link.recv(4096)
        print("more", flush=True)
        time.sleep(0.1)
except OSError as error:
    print("ended", type(error).__name__, flush=True)
"""


def python(workload: str, program: str, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "netwatch", "lab", "exec", workload, "--"),
        *(sys.executable, "-c", program, *arguments),
    ]


@contextmanager
def talking(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program in a workload that has said its first line."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def resolve(
    name: str, port: int, how: str = "udp", *, family: int, patience_s: float = PROMISE_S
) -> str:
    """What connecting by name gave: seconds, or the error."""
    done = subprocess.run(
        python("web", CLIENT, DNS, name, str(port), how, str(family), str(patience_s)),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def until(fact: Callable[[], bool], seconds: float, what: str) -> float:
    """How long it took; fails after `seconds`."""
    begun = time.monotonic()
    while not fact():
        assert time.monotonic() - begun < seconds, what
        time.sleep(0.1)
    return time.monotonic() - begun


@pytest.fixture
def guarded(
    lab: Callable[[str], Said], up: Callable[..., Up], tmp_path: Path
) -> Iterator[Callable[[str, str], Up]]:
    """The lab with a document in force and an agent, whose names last no longer than told."""
    lab(LAB)

    def start(document: str, backend: str) -> Up:
        file = tmp_path / "web.yaml"
        file.write_text(document)
        running = up(NETWATCH_NAME_GRACE="0")
        running.ready()
        said = host("apply", "--policies", str(file), "--backend", backend, "--json")
        assert said.code == 0, said.err
        return running

    yield start
    host("remove")


@WAYS
def test_a_name_opens_when_it_is_answered_and_closes_when_its_time_is_over(
    guarded: Callable[[str, str], Up], backend: str, family: int
) -> None:
    """One blocking connect after the answer gets through, and nothing before or beside it."""
    guarded(SEGMENT, backend)
    assert not call("web", "internet", 80, family=family)
    with talking(python("dns", SERVER, OUTSIDE[family], "1")):
        assert float(resolve("api.example.com", 80, family=family)) < PROMISE_S
        assert call("web", "internet", 80, family=family)
        assert not call("web", "internet", 81, family=family)
        assert float(resolve("over.tcp.test", 81, "tcp", family=family)) < PROMISE_S
        assert host("verify", "--json").json["ok"]
        refused = resolve("other.test", 82, family=family, patience_s=1.0)  # silence
        assert refused == "TimeoutError"
        closed = lambda: not call("web", "internet", 80, family=family)  # noqa: E731
        until(closed, 20, "it stays open")


@WAYS
def test_a_broken_obligation_ends_its_session_and_no_other(
    guarded: Callable[[str, str], Up], backend: str, family: int
) -> None:
    """Plaintext where encryption is demanded: cut, refused for a while, told; TLS goes on."""
    running = guarded(SEGMENT, backend)
    api, web = API[family], WEB[family]
    with (
        talking(python("api", BOTH, api)),
        talking(python("web", TALK, api, "tls")) as secret,
        talking(python("web", TALK, api, "plain")) as plain,
    ):
        begun = time.monotonic()
        assert plain.stdout is not None and secret.stdout is not None
        ended = [line for line in plain.stdout if line.startswith("ended")]
        assert ended and time.monotonic() - begun < 3 * PROMISE_S
        assert not call("web", "api", 443, family=family)
        assert f"add nw-refused{family} {web},tcp:443,{api}" in inside("ipset", "save")
        assert "it is cut and refused" in running.complaints()
        secret.kill()
        assert "ended" not in secret.stdout.read()
    running.wait(
        lambda: _broken(running) == ["a/shop/web>a/shop/api:tcp/443"], "no alert tells of it"
    )


def _broken(running: Up) -> list[str]:
    """The edges that alerts name for broken obligations."""
    alerts = running.get("alerts")["alerts"]
    return [a["subject"] for a in alerts if a["detector"] == "obligation-violated"]

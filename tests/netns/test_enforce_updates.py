"""Policies change under traffic: nothing that both deny passes, nothing that both allow is lost.

Every packet is counted. `NETWATCH_UPDATES=100` makes a hundred changes a backend.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from netwatch.enforce import host
from netwatch.enforce.sets import read_sets
from netwatch.enforce.upkeep import refresh
from netwatch.kernel.namespaces import inside, path_of_name, socket_inside
from netwatch.model.snapshot import Snapshot
from netwatch.policy.files import read_policies
from tests.netns.conftest import run_netwatch

pytestmark = pytest.mark.netns

UPDATES = int(os.environ.get("NETWATCH_UPDATES", "12"))
PORT = 5300
API = {socket.AF_INET: "198.18.1.11", socket.AF_INET6: "2001:db8:1::11"}
ENDS = "".join(
    f"""
  - {{name: {name}, host: a, namespace: {namespace}, labels: {{app: {name}}},
     listen: [{{port: 80, serve: echo}}], addresses: [198.18.1.{n}, "2001:db8:1::{n}"]}}"""
    for name, namespace, n in (("web", "shop", 10), ("api", "shop", 11), ("rogue", "lab", 12))
)
LAB = f"hosts: [a]\nnamespaces: {{shop: {{team: shop}}, lab: {{team: lab}}}}\nworkloads:{ENDS}\n"


def document(selected: str, namespace: str, kind: str, rules: str) -> str:
    """A NetworkPolicy that isolates one workload in one direction."""
    return f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {selected}-{kind.lower()}, namespace: {namespace}}}
spec:
  podSelector: {{matchLabels: {{app: {selected}}}}}
  policyTypes: [{kind}]
  {kind.lower()}: [{rules}]
"""


WEB, TO_API = (
    "{podSelector: {matchLabels: {app: web}}}",
    "{podSelector: {matchLabels: {app: api}}}",
)
PORTS = f"ports: [{{port: 80}}, {{port: {PORT}, protocol: UDP}}]"
NARROW = document("api", "shop", "Ingress", f"{{from: [{WEB}], {PORTS}}}")
WIDE = document("api", "shop", "Ingress", f"{{from: [{WEB}]}}")
ANYONE = document("api", "shop", "Ingress", f"{{{PORTS}}}")
ALL = document("api", "shop", "Ingress", "{}")
SHUT = document("rogue", "lab", "Egress", "")
OUT = document("web", "shop", "Egress", f"{{to: [{TO_API}]}}")
OTHER = document("rogue", "lab", "Ingress", f"{{{PORTS}}}")
# web may call api in all of these, and rogue in none, each time for another reason.
STATES = [
    *((NARROW,), (WIDE,), (NARROW, OTHER), (SHUT,), (ANYONE, SHUT), (WIDE, OUT)),
    *((SHUT, OUT), (NARROW, OUT, OTHER), (ANYONE, SHUT, OUT), (WIDE, SHUT), (SHUT,)),
    *((WIDE,), (ALL, SHUT), (WIDE,), (SHUT,), (NARROW,), (ALL, SHUT), (OUT, SHUT)),
]


class Traffic:
    """Calls and datagrams from web and from rogue to api in both families, and a conversation."""

    def __init__(self, begin_denied: threading.Event) -> None:
        self.denied = begin_denied  # while set, nothing of rogue's may arrive
        self.sent: dict[str, int] = {}
        self.got: dict[str, int] = {}
        self.leaked: list[str] = []
        self.lost: list[str] = []
        self.spoken = self.heard = 0
        self._end = threading.Event()
        self._failures: list[BaseException] = []
        work = [self._datagrams, self._conversation]
        work += [lambda s=s, f=f: self._calls(s, f) for s in ("web", "rogue") for f in API]
        self._threads = [threading.Thread(target=self._guarded, args=(each,)) for each in work]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends when everything under way has arrived."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        assert self._failures == []

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # told by the test's own thread
            self._failures.append(error)

    def _datagrams(self) -> None:
        """Some thousand a second: `web4 17 1` is the 17th, sent while denied or not."""
        api = {f: socket_inside(path_of_name("nw-api"), f, socket.SOCK_DGRAM) for f in API}
        links = {
            f"{source}{'4' if family == socket.AF_INET else '6'}": (
                socket_inside(path_of_name(f"nw-{source}"), family, socket.SOCK_DGRAM),
                (API[family], PORT),
            )
            for source in ("web", "rogue")
            for family in API
        }
        for family, link in api.items():
            link.bind((API[family], PORT))
            link.setblocking(False)
        while not self._end.is_set():
            denied = int(self.denied.is_set())
            for name, (link, target) in links.items():
                self.sent[name] = self.sent.get(name, 0) + 1
                link.sendto(f"{name} {self.sent[name]} {denied}".encode(), target)
            self._collect(list(api.values()), wait_s=0)
            time.sleep(0.0002)
        while self._collect(list(api.values()), wait_s=0.3):
            pass
        for one in (*api.values(), *(link for link, _ in links.values())):
            one.close()

    def _collect(self, links: list[socket.socket], *, wait_s: float) -> bool:
        ready, _, _ = select.select(links, [], [], wait_s)
        for link in ready:
            while True:
                try:
                    name, number, denied = link.recv(99).decode().split()
                except BlockingIOError:
                    break
                self.got[name] = self.got.get(name, 0) + 1
                # sent while denied and come while denied: not one from before or after
                if name.startswith("rogue") and denied == "1" and self.denied.is_set():
                    self.leaked.append(f"datagram {number} of {name}")
        return bool(ready)

    def _calls(self, source: str, family: socket.AddressFamily) -> None:
        """One connect after the other; a lost SYN is repeated after a second: that is a loss."""
        place = path_of_name(f"nw-{source}")
        name = f"tcp {source} {family.name}"
        while not self._end.is_set():
            with closing(socket_inside(place, family, socket.SOCK_STREAM)) as link:
                link.settimeout(0.9)
                denied = self.denied.is_set()
                self.sent[name] = self.sent.get(name, 0) + 1
                try:
                    link.connect((API[family], 80))
                    open_ = True
                except OSError:
                    open_ = False
                if source == "web" and not open_:
                    self.lost.append(f"call {self.sent[name]} of {name}")
                if source == "rogue" and open_ and denied and self.denied.is_set():
                    self.leaked.append(f"call {self.sent[name]} of {name}")
            time.sleep(0.005)

    def _conversation(self) -> None:
        """An echo that began before anything was applied; every byte must come back in order."""
        with closing(
            socket_inside(path_of_name("nw-web"), socket.AF_INET, socket.SOCK_STREAM)
        ) as link:
            link.settimeout(5)
            link.connect((API[socket.AF_INET], 80))
            while not self._end.is_set():
                word = self.spoken.to_bytes(8, "big")
                link.sendall(word)
                self.spoken += 1
                back = b""
                while len(back) < len(word):
                    more = link.recv(len(word) - len(back))
                    assert more, "the conversation was ended"
                    back += more
                assert back == word
                self.heard += 1


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """The lab and what discovery says of its host."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB)
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    found = [
        msgspec.json.decode(each.read_bytes(), type=Snapshot)
        for each in Path("/run/netwatch/lab").glob("*.json")
    ]
    yield next(each for each in found if each.workloads)
    assert run_netwatch("lab", "down").code == 0


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_no_change_leaks_or_loses_a_packet(estate: Snapshot, tmp_path: Path, backend: str) -> None:
    """First apply, alternating and growing documents, and remove, while calls and datagrams go."""
    denied = threading.Event()
    file = tmp_path / "policies.yaml"

    def apply(documents: tuple[str, ...]) -> None:
        file.write_text("---\n".join(documents))
        host.apply([file], estate, backend=backend, now=time.time_ns())

    def change() -> None:
        apply(STATES[0])
        denied.set()
        for number in range(UPDATES):
            # the next of all states, and between them back to the first: every pair with it
            apply(STATES[0] if number % 2 else STATES[1 + number // 2 % (len(STATES) - 1)])
        for state in STATES[1:]:  # each to its neighbour
            apply(state)
        denied.clear()
        host.remove()

    traffic = Traffic(denied)
    try:
        inside(path_of_name("nwh-a"), change)
    finally:
        denied.clear()
        traffic.stop()
    print(backend, traffic.sent, traffic.got, f"{traffic.heard} words of a conversation")
    assert traffic.leaked == []
    assert traffic.lost == []
    for name in ("web4", "web6"):
        assert traffic.got[name] == traffic.sent[name] > 100
    assert traffic.heard == traffic.spoken > 100


ISOLATED = document("web", "shop", "Ingress", "")  # whom web calls may answer, and nothing else


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_an_answer_in_a_udp_session_from_before_the_first_apply_arrives(
    estate: Snapshot, tmp_path: Path, backend: str
) -> None:
    """web is isolated: api's next datagram is an answer only if the session is known."""
    file = tmp_path / "policies.yaml"
    file.write_text(ISOLATED)
    place = path_of_name("nwh-a")
    with (
        closing(socket_inside(path_of_name("nw-web"), socket.AF_INET, socket.SOCK_DGRAM)) as web,
        closing(socket_inside(path_of_name("nw-api"), socket.AF_INET, socket.SOCK_DGRAM)) as api,
    ):
        api.bind((API[socket.AF_INET], PORT))
        web.connect((API[socket.AF_INET], PORT))
        web.settimeout(3)
        try:
            inside(place, lambda: host.apply([file], estate, backend=backend, now=time.time_ns()))
            api.sendto(b"answer", web.getsockname())
            assert web.recv(99) == b"answer"
        finally:
            inside(place, host.remove)


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_an_expired_rule_goes_without_a_change_of_documents(
    estate: Snapshot, tmp_path: Path, backend: str
) -> None:
    """The agent's refresh alone closes it, once."""
    file = tmp_path / "policies.yaml"
    file.write_text(NARROW)
    (narrow,) = read_policies([file])
    ends_at = 1_000
    rules = tuple(replace(rule, expires=ends_at) for rule in narrow.ingress)
    applied = host.Applied((replace(narrow, ingress=rules),), "", backend, 0)

    def pass_time() -> list[tuple[str, ...]]:
        host.apply([file], estate, backend=backend, now=0)
        return [refresh(applied, estate, now=now) for now in (999, 1_000, 1_001, 1_002)]

    place = path_of_name("nwh-a")
    try:
        found = inside(place, pass_time)
        edges = inside(place, read_sets)["nw-edge4"][1]
    finally:
        inside(place, host.remove)
    assert [bool(each) for each in found[2:]] == [False, False]
    assert any(found[:2])
    assert edges == frozenset()

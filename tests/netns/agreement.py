"""Draws estates and documents, tries calls from inside the workloads, and asks `decide` the same.

Two errors are told apart: a false allow (the kernel lets through what `decide` denies) and a false
deny. Everything is drawn from one seed.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.evaluate import Judge
from netwatch.policy.ir import Party
from tests.netns.conftest import Said, run_in

HOSTS = ("a", "b")
QUESTIONS = (("tcp", 80), ("tcp", 81), ("udp", 53))
UNDERLAYS = ("routed", "nat", "shared")  # shared: two hosts own the same subnet, as plain Docker's
Document = dict[str, Any]

# Tries every call of standard input at once and tells which were answered. One process for each
# workload: a thousand calls would otherwise be a thousand interpreters.
PROBER = """
import json, selectors, socket, sys, time
calls = json.load(sys.stdin); open_ = [False] * len(calls); watch = selectors.DefaultSelector()
for n, (address, protocol, port) in enumerate(calls):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    link = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    link.setblocking(False)
    try:
        link.connect_ex((address, port))
        if protocol == "udp":
            link.send(b"x")
    except OSError:
        continue
    event = selectors.EVENT_WRITE if protocol == "tcp" else selectors.EVENT_READ
    watch.register(link, event, (n, protocol))
end = time.monotonic() + 2.5
while watch.get_map() and time.monotonic() < end:
    for key, _ in watch.select(end - time.monotonic()):
        n, protocol = key.data
        watch.unregister(key.fileobj)
        try:
            if protocol == "udp":
                open_[n] = key.fileobj.recv(9) == b"x"
            else:
                open_[n] = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        except OSError:
            pass
json.dump(open_, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A question that can be tried: the address is the target's own, of either family."""

    source: Workload
    target: Workload
    address: str
    protocol: str
    port: int

    def __str__(self) -> str:
        ends = f"{self.source.key} -> {self.target.key} {self.address}"
        return f"{ends} {self.protocol}/{self.port}"

    def permitted(self, judge: Judge) -> bool:
        """What `decide` says."""
        own = next(a for a in self.source.addresses if (":" in a) == (":" in self.address))
        ends = Party(self.source, own), Party(self.target, self.address)
        return judge.decide(*ends, self.protocol, self.port).verdict == "allow"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What trying some calls showed."""

    calls: int
    denied: int
    false_allow: tuple[str, ...]
    false_deny: tuple[str, ...]

    def __str__(self) -> str:
        errors = f"false allow {len(self.false_allow)}, false deny {len(self.false_deny)}"
        return f"{self.calls} calls, {self.denied} to be denied, {errors}"


def lab_text(draw: random.Random, size: int, underlay: str) -> str:
    """Workloads in two namespaces on two hosts, each with the same three servers."""
    listen = [
        {"port": 80, "name": "http", "serve": "echo"},
        {"port": 81, "serve": "echo"},
        {"port": 53, "protocol": "udp", "serve": "echo"},
    ]

    def place(number: int) -> Document:
        """On both hosts the same addresses where the subnet is shared."""
        last = 10 + number // len(HOSTS)
        given = {"addresses": [f"198.18.7.{last}", f"2001:db8:7::{last:x}"]}
        return {"host": HOSTS[number % len(HOSTS)], **(given if underlay == "shared" else {})}

    workloads = [
        {
            "name": f"w{number}",
            "namespace": draw.choice("xy"),
            "labels": {"app": draw.choice("rst"), "tier": draw.choice("12")},
            "listen": listen,
            **place(number),
        }
        for number in range(size)
    ]
    names = {"x": {"team": "x"}, "y": {"team": "y"}}
    lines = "nat" if underlay == "nat" else "routed"
    lab = {"hosts": HOSTS, "underlay": lines, "namespaces": names, "workloads": workloads}
    return json.dumps(lab)


def documents(draw: random.Random, blocks: list[str]) -> list[Document]:
    """A few of every kind. `blocks`: networks that ipBlock may name; none where NAT hides them."""
    kinds = [_network_policy] * draw.randrange(1, 4)
    kinds += [_segment] * draw.randrange(3) + [_tier] * draw.randrange(3)
    return [make(draw, number, blocks) for number, make in enumerate(kinds)]


def _selector(draw: random.Random) -> Document:
    key, values = draw.choice((("app", "rst"), ("tier", "12")))
    return draw.choice(({}, {"matchLabels": {key: draw.choice(values)}}))


def _document(
    kind: str, version: str, number: int, spec: Document, *, namespace: str | None
) -> Document:
    place = {"namespace": namespace} if namespace else {}
    metadata = {"name": f"p{number}", **place}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _network_policy(draw: random.Random, number: int, blocks: list[str]) -> Document:
    def peer() -> Document:
        team = {"matchLabels": {"team": draw.choice("xy")}}
        peers: list[Document] = [
            {"podSelector": _selector(draw)},
            {"podSelector": _selector(draw)},
            {"namespaceSelector": team},
            {"namespaceSelector": team, "podSelector": _selector(draw)},
        ]
        if blocks:
            block = {"cidr": "0.0.0.0/0", "except": [draw.choice(blocks)]}
            peers += [{"ipBlock": block}, {"ipBlock": {"cidr": "2001:db8::/32"}}]
        return draw.choice(peers)

    def rule(way: str) -> Document:
        ports = [{"port": 80}, {"port": "http"}, {"port": 53, "protocol": "UDP"}]
        ports += [{"port": 79, "endPort": 200}, {"protocol": "TCP"}]
        made: Document = {}
        if draw.random() < 0.8:
            made[way] = [peer() for _ in range(draw.randrange(1, 3))]
        if draw.random() < 0.7:
            made["ports"] = draw.sample(ports, draw.randrange(1, 3))
        return made

    kinds = draw.choice((["Ingress"], ["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    spec: Document = {"podSelector": _selector(draw), "policyTypes": kinds}
    for kind, key, way in (("Ingress", "ingress", "from"), ("Egress", "egress", "to")):
        if kind in kinds:
            spec[key] = [rule(way) for _ in range(draw.randrange(3))]
    return _document(
        "NetworkPolicy", "networking.k8s.io/v1", number, spec, namespace=draw.choice("xy")
    )


def _segment(draw: random.Random, number: int, blocks: list[str]) -> Document:
    def rule() -> Document:
        peers: list[Any] = [f"app={draw.choice('rst')}", f"tier={draw.choice('12')}"]
        peers += [{"namespace": draw.choice(("x", "y", "any"))}]
        made: Document = {draw.choice(("from", "to")): draw.choice(peers)}
        made |= draw.choice(({}, {"ports": 80}, {"ports": "http"}, {"ports": ["79-99", "53/udp"]}))
        exception = {"exception": True, "owner": "test", "expires": "2099-12-31"}
        return made | draw.choice(({}, {}, {"deny": True}, exception))

    spec = {
        "governs": f"app={draw.choice('rst')}",
        "mode": "enforce",
        "rules": [rule() for _ in range(draw.randrange(1, 4))],
    }
    return _document("Segment", "netwatch/v1", number, spec, namespace=draw.choice("xy"))


def _tier(draw: random.Random, number: int, blocks: list[str]) -> Document:
    def inside() -> Document:
        spaces = draw.choice(({}, {"matchLabels": {"team": draw.choice("xy")}}))
        pods = {"namespaceSelector": spaces, "podSelector": _selector(draw)}
        return draw.choice(({"namespaces": spaces}, {"pods": pods}))

    def rule(way: str) -> Document:
        ports = [
            {"tcp": {"destinationPort": {"number": 80}}},
            {"udp": {"destinationPort": {"range": {"start": 50, "end": 60}}}},
        ]
        made = {"action": draw.choice(("Accept", "Deny", "Pass")), way: [inside()]}
        return made | draw.choice(({}, {"protocols": [draw.choice(ports)]}))

    spec = {
        "tier": draw.choice(("Admin", "Baseline")),
        "priority": number,
        "subject": inside(),
        "ingress": [rule("from") for _ in range(draw.randrange(3))],
        "egress": [rule("to") for _ in range(draw.randrange(3))],
    }
    version = "policy.networking.k8s.io/v1alpha2"
    return _document("ClusterNetworkPolicy", version, number, spec, namespace=None)


def snapshots() -> list[Snapshot]:
    """What discovery reads on each host."""
    files = sorted(Path("/run/netwatch/lab").glob("*.json"))
    found = [msgspec.json.decode(f.read_bytes(), type=Snapshot) for f in files]
    return [each for each in found if each.workloads]


def at(host: str, verb: str, *arguments: str) -> Said:
    """`netwatch host VERB` on a host of the lab, as its operator would."""
    program = (sys.executable, "-m", "netwatch", "host", verb, *arguments)
    return run_in(host, *program)


def possible(estates: list[Snapshot], questions: Iterable[tuple[str, int]]) -> Iterator[Call]:
    """Each call of one workload to another one, over every address and with every question."""
    asked = tuple(questions)
    workloads = [w for each in estates for w in each.workloads]
    for source in workloads:
        for target in workloads:
            if source.identity != target.identity:
                for address in target.addresses:
                    yield from (Call(source, target, address, *question) for question in asked)


def seen_from(call: Call, estates: list[Snapshot]) -> tuple[str, str, int]:
    """What the source has to call: across NAT, the published port of the target's host."""
    here = next(each for each in estates if each.host == call.source.host)
    neighbours = {neighbour.name: neighbour for neighbour in here.neighbours}
    other = neighbours.get(call.target.host)
    if other is None or other.routed:
        return call.address, call.protocol, call.port
    served = (call.protocol, call.port)
    door = next(p for p in call.target.published if (p.protocol, p.port) == served)
    front = next(a for a in other.addresses if (":" in a) == (":" in call.address))
    return front, call.protocol, door.host_port


def tried(calls: list[Call], estates: list[Snapshot], judge: Judge) -> Outcome:
    """Try the calls, all sources at once, and compare with `decide`."""
    wrong: dict[bool, list[str]] = {True: [], False: []}
    permitted = [call.permitted(judge) for call in calls]
    for call, open_, right in zip(calls, answers(calls, estates), permitted, strict=True):
        if open_ is not right:
            wrong[open_].append(str(call))
    return Outcome(len(calls), permitted.count(False), tuple(wrong[True]), tuple(wrong[False]))


def answers(calls: list[Call], estates: list[Snapshot]) -> list[bool]:
    """Which of the calls are answered: a process in each source tries all of its own."""
    places: dict[str, list[int]] = {}
    for place, call in enumerate(calls):
        assert call.source.runtime_id is not None
        places.setdefault(call.source.runtime_id, []).append(place)
    found = [False] * len(calls)
    with ExitStack() as stack:
        running = [
            (
                mine,
                stack.enter_context(_prober(name, [seen_from(calls[n], estates) for n in mine])),
            )
            for name, mine in places.items()
        ]
        for mine, process in running:
            assert process.stdout is not None
            for place, open_ in zip(mine, json.load(process.stdout), strict=True):
                found[place] = open_
    return found


def _prober(namespace: str, calls: list[tuple[str, str, int]]) -> subprocess.Popen[str]:
    """Tries the calls from inside a network namespace; its answer is one line of JSON."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", PROBER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    json.dump(calls, process.stdin)
    process.stdin.close()
    return process

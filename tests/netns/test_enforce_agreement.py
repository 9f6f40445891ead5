"""The kernels of two hosts and `decide` agree: random documents, real connects, both families."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from netwatch.enforce.ends import world_of
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.evaluate import Judge
from netwatch.policy.files import read_policies
from netwatch.policy.ir import Party
from tests.netns.conftest import run_netwatch

pytestmark = pytest.mark.netns

SIZE = 12
QUESTIONS = (("tcp", 80), ("tcp", 81), ("udp", 53))
SAMPLE = 500
SEEDS = [int(text) for text in os.environ.get("NETWATCH_SEEDS", "11,12").split(",")]

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


def lab_text(draw: random.Random, underlay: str) -> str:
    """Workloads in two namespaces on two hosts, each with the same three servers."""
    listen = [
        {"port": 80, "name": "http", "serve": "echo"},
        {"port": 81, "serve": "echo"},
        {"port": 53, "protocol": "udp", "serve": "echo"},
    ]
    workloads = [
        {
            "name": f"w{number}",
            "host": "ab"[number % 2],
            "namespace": draw.choice("xy"),
            "labels": {"app": draw.choice("rst"), "tier": draw.choice("12")},
            "listen": listen,
        }
        for number in range(SIZE)
    ]
    names = {"x": {"team": "x"}, "y": {"team": "y"}}
    lab = {"hosts": ["a", "b"], "underlay": underlay, "namespaces": names, "workloads": workloads}
    return json.dumps(lab)


def documents(
    draw: random.Random, addresses: list[str], *, blocks: bool
) -> list[dict[str, object]]:
    """A few NetworkPolicy objects with every kind of port, and of peer (`blocks`: ipBlock too)."""

    def selector() -> dict[str, object]:
        key, values = draw.choice((("app", "rst"), ("tier", "12")))
        return draw.choice(({}, {"matchLabels": {key: draw.choice(values)}}))

    def peer() -> dict[str, object]:
        block = f"{draw.choice([a for a in addresses if ':' not in a])}/29"
        peers: list[dict[str, object]] = [
            {"podSelector": selector()},
            {"podSelector": selector()},
            {"namespaceSelector": {"matchLabels": {"team": draw.choice("xy")}}},
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": [block]}},
            {"ipBlock": {"cidr": "2001:db8::/32"}},
        ]
        return draw.choice(peers if blocks else peers[:3])

    def rule(way: str) -> dict[str, object]:
        ports = [{"port": 80}, {"port": "http"}, {"port": 53, "protocol": "UDP"}]
        ports += [{"port": 79, "endPort": 200}, {"protocol": "TCP"}]
        made: dict[str, object] = {}
        if draw.random() < 0.8:
            made[way] = [peer() for _ in range(draw.randrange(1, 3))]
        if draw.random() < 0.7:
            made["ports"] = draw.sample(ports, draw.randrange(1, 3))
        return made

    def one(number: int) -> dict[str, object]:
        kinds = draw.choice((["Ingress"], ["Ingress"], ["Egress"], ["Ingress", "Egress"]))
        spec: dict[str, object] = {"podSelector": selector(), "policyTypes": kinds}
        for kind, key, way in (("Ingress", "ingress", "from"), ("Egress", "egress", "to")):
            if kind in kinds:
                spec[key] = [rule(way) for _ in range(draw.randrange(3))]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"p{number}", "namespace": draw.choice("xy")},
            "spec": spec,
        }

    return [one(number) for number in range(draw.randrange(2, 6))]


def snapshots() -> list[Snapshot]:
    """What discovery reads on each host."""
    files = sorted(Path("/run/netwatch/lab").glob("*.json"))
    found = [msgspec.json.decode(f.read_bytes(), type=Snapshot) for f in files]
    return [each for each in found if each.workloads]


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["routed", "nat"])
def underlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed{seed}")
def draw(request: pytest.FixtureRequest, tmp_path: Path, underlay: str) -> Iterator[random.Random]:
    """A lab made from a seed; it goes down afterwards."""
    drawn = random.Random(request.param)
    file = tmp_path / "lab.json"
    file.write_text(lab_text(drawn, underlay))
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    yield drawn
    assert run_netwatch("lab", "down").code == 0


def test_kernel_and_decide_agree(
    draw: random.Random, underlay: str, backend: str, tmp_path: Path
) -> None:
    """Every sampled call is open exactly if `decide` allows it; the two errors are told apart."""
    estates = snapshots()
    workloads = [w for each in estates for w in each.workloads]
    file = tmp_path / "policies.json"
    addresses = [a for w in workloads for a in w.addresses]
    made = documents(draw, addresses, blocks=underlay == "routed")
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
    for name in ("a", "b"):
        program = (sys.executable, "-m", "netwatch", "host", "apply", "--backend", backend)
        said = run_netwatch("lab", "exec", name, "--", *program, "--policies", str(file))
        assert said.code == 0, said.err
    judge = Judge(read_policies([file]), world_of(estates[0]))
    calls = [
        (source, (target, address, *question))
        for source in workloads
        for target in workloads
        if source.identity != target.identity
        for address in target.addresses
        for question in QUESTIONS
    ]
    wrong: dict[bool, list[str]] = {True: [], False: []}
    denied = 0
    chosen = draw.sample(calls, min(SAMPLE, len(calls)))
    for source in workloads:
        mine = [call for caller, call in chosen if caller is source]
        for (target, address, protocol, port), open_ in zip(
            mine,
            probe(source.name, [seen_from(source, call, estates) for call in mine]),
            strict=True,
        ):
            own = next(a for a in source.addresses if (":" in a) == (":" in address))
            ends = Party(source, own), Party(target, address)
            said = judge.decide(*ends, protocol, port).verdict == "allow"
            denied += not said
            if open_ is not said:
                wrong[open_].append(f"{source.key} -> {target.key} {address} {protocol}/{port}")
    errors = f"false allow {len(wrong[True])}, false deny {len(wrong[False])}"
    print(f"{len(chosen)} calls, {denied} to be denied, {errors}")
    assert wrong == {True: [], False: []}, json.dumps(made)


def seen_from(
    source: Workload, call: tuple[Workload, str, str, int], estates: list[Snapshot]
) -> tuple[str, str, int]:
    """What the source has to call: across NAT, the published port of the target's host."""
    target, address, protocol, port = call
    here = next(each for each in estates if each.host == source.host)
    if target.host == source.host or all(neighbour.routed for neighbour in here.neighbours):
        return address, protocol, port
    other = next(n for n in here.neighbours if n.name == target.host)
    door = next(p for p in target.published if (p.protocol, p.port) == (protocol, port))
    front = next(a for a in other.addresses if (":" in a) == (":" in address))
    return front, protocol, door.host_port


def probe(name: str, calls: list[tuple[str, str, int]]) -> list[bool]:
    """Which of the calls are answered, tried from inside the workload."""
    done = subprocess.run(
        ["ip", "netns", "exec", f"nw-{name}", sys.executable, "-c", PROBER],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: list[bool] = json.loads(done.stdout)
    return found

"""No way past over IPv6: the truth tables of Kubernetes, asked over IPv6 only (F19)."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netwatch.enforce import host
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.snapshot import Snapshot
from tests.netns import agreement
from tests.netns.agreement import Call
from tests.netns.conftest import run_netwatch
from tests.netns.test_enforce_truth_tables import MOST, SERVED, TABLES, dressed, stated

pytestmark = pytest.mark.netns

NAMESPACE = path_of_name("nwh-a")
WAIT_S = 3.0  # for an answer that the table promises
GRACE_S = 0.05  # for one that it does not: within a host an answer takes less than a millisecond
Case = dict[str, Any]


def cases() -> list[Case]:
    """Every case of the end-to-end tests of Kubernetes."""
    if not TABLES.exists():
        return []
    return list(json.loads((TABLES / "network_policy.json").read_text()))


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """One host with as many workloads as the largest case, each with every server."""
    if not TABLES.exists():
        pytest.skip(f"no truth tables in {TABLES}")
    listen = [{"port": port, "protocol": name, "serve": "echo"} for name, port in SERVED]
    workloads = [{"name": f"w{n}", "host": "a", "listen": listen} for n in range(MOST)]
    file = tmp_path_factory.mktemp("tables") / "lab.json"
    file.write_text(json.dumps({"hosts": ["a"], "workloads": workloads}))
    assert run_netwatch("lab", "up", str(file)).code == 0
    (found,) = agreement.snapshots()
    yield found
    inside(NAMESPACE, host.remove)
    assert run_netwatch("lab", "down").code == 0


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["id"])
def test_the_table_holds_over_ipv6(case: Case, estate: Snapshot, tmp_path: Path) -> None:
    """F19: each step over the one before it, every TCP and UDP cell over IPv6; no false allow.

    A network of the table is the same network of IPv6.
    """
    file = tmp_path / "policies.json"
    for step in case["steps"]:
        known = dressed(estate, step["topology"])
        items = {"apiVersion": "v1", "kind": "List", "items": step["policies"]}
        file.write_text(_translated(json.dumps(items), estate, step["topology"]["pods"]))
        now = time.time_ns()
        inside(NAMESPACE, lambda k=known, n=now: host.apply([file], k, backend="auto", now=n))
        expected = {
            replace(call, address=call.target.addresses[1]): open_
            for call, open_ in stated(step, known.workloads).items()
        }
        found = _tried(expected)
        wrong = {str(call): open_ for call, open_ in found.items() if open_ is not expected[call]}
        assert wrong == {}, case["id"]


def _translated(text: str, estate: Snapshot, pods: list[dict[str, Any]]) -> str:
    """The documents with IPv6 networks: a pod's address is that of the workload that plays it."""
    for pod, workload in zip(pods, estate.workloads, strict=False):
        text = text.replace(f'"{pod["ip"]}/32"', f'"{workload.addresses[1]}/128"')
    return text.replace('"10.244.0.0/16"', f'"{estate.networks[0].subnets[1]}"')


def _tried(expected: dict[Call, bool]) -> dict[Call, bool]:
    """Which calls are answered, all at once; waits for those that should be, and a little more."""
    found = dict.fromkeys(expected, False)
    sources: dict[str, list[Call]] = {}
    for call in expected:
        sources.setdefault(call.source.runtime_id, []).append(call)
    with selectors.DefaultSelector() as watch:
        for name, calls in sources.items():
            for call, link in inside(path_of_name(name), lambda c=calls: list(map(_begun, c))):
                event = selectors.EVENT_WRITE if call.protocol == "tcp" else selectors.EVENT_READ
                watch.register(link, event, call)
        awaited = {call for call, open_ in expected.items() if open_}
        end, quiet = time.monotonic() + WAIT_S, time.monotonic() + GRACE_S
        while time.monotonic() < (end if awaited else quiet):
            for key, _ in watch.select(0.01):
                found[key.data] = _answered(key.fileobj, key.data)
                awaited.discard(key.data)
                watch.unregister(key.fileobj)
                key.fileobj.close()
                quiet = time.monotonic() + GRACE_S
        for key in list(watch.get_map().values()):
            key.fileobj.close()
    return found


def _begun(call: Call) -> tuple[Call, socket.socket]:
    kind = socket.SOCK_STREAM if call.protocol == "tcp" else socket.SOCK_DGRAM
    link = socket.socket(socket.AF_INET6, kind)
    link.setblocking(False)
    link.connect_ex((call.address, call.port))
    if kind == socket.SOCK_DGRAM:
        link.send(b"x")
    return call, link


def _answered(link: Any, call: Call) -> bool:
    if call.protocol == "tcp":
        return link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    try:
        return link.recv(9) == b"x"
    except OSError:
        return False

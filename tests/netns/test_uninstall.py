"""Removing leaves the host as it was: rules, sets, bridges' tables, tc, BPF and switches.

What stands inside workloads' own namespaces is held to the same by `test_enforce_inside`, after
each of its tests.
"""

from __future__ import annotations

import ctypes
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netwatch.capture.libbpf import library
from netwatch.enforce import writers
from netwatch.kernel.namespaces import inside, path_of_name
from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.running import Up
from tests.netns.small_shop import API_FROM_WEB, HOST, LAB, network_policy

pytestmark = pytest.mark.netns

SPACES = (HOST, "nw-web", "nw-api", "nw-rogue")
TCX = (46, 47)  # BPF_TCX_INGRESS and EGRESS, linux/bpf.h
COUNTERS = re.compile(r" ?\[\d+:\d+\]|packets \d+ bytes \d+|^#.*|handle \S+", re.MULTILINE)
# what counts, or moves by itself
RESTLESS = re.compile(r"^(net\.netfilter\.nf_conntrack_count|net\.ipv4\.route|\S+\.(stat|random))")
STAGED = network_policy("rogue", "Ingress, Egress", "", mode="stage")


def at(space: str, *command: str) -> str:
    """A command in a namespace; its output without counters, comments and handles."""
    done = subprocess.run(
        ["ip", "netns", "exec", space, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return COUNTERS.sub("", done.stdout)


def programs() -> dict[str, int]:
    """How many BPF programs hang at each interface."""

    def look() -> dict[str, int]:
        found = {}
        for index, name in socket.if_nameindex():
            for point in TCX:
                count, ids = ctypes.c_uint32(8), (ctypes.c_uint32 * 8)()
                code = library().bpf_prog_query(index, point, 0, None, ids, ctypes.byref(count))
                found[f"{name} {point}"] = count.value if code == 0 else 0
        return found

    return inside(path_of_name(HOST), look)


def switches(space: str) -> list[str]:
    """sysctls of the network."""
    lines = at(space, "sysctl", "-a", "-r", r"^net\.").splitlines()
    return [line for line in lines if not RESTLESS.match(line)]


def everything(backend: str) -> dict[str, object]:
    """All that netwatch may change, by where it is."""
    commands = [
        ["nft", "list", "ruleset"],
        ["ipset", "save"],
        ["tc", "qdisc", "show"],
        ["cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"],
    ]
    if backend == "legacy":  # asking makes a table, where there was none
        commands += [["iptables-legacy-save"], ["ip6tables-legacy-save"]]
    else:
        commands += [["iptables-nft-save"], ["ip6tables-nft-save"]]
    found: dict[str, object] = {
        f"{space}: {' '.join(command)}": at(space, *command)
        for space in SPACES
        for command in commands
    }
    for _, name in inside(path_of_name(HOST), socket.if_nameindex):
        for way in ("ingress", "egress"):
            shown = ["tc", "filter", "show", "dev", name, way]
            found[" ".join(shown)] = at(HOST, *shown)
    found["bpf"] = programs()
    found["pins"] = sorted(str(each) for each in Path("/sys/fs/bpf").rglob("*"))
    for space in SPACES:
        for line in switches(space):
            name, _, value = line.partition(" = ")
            found[f"{space}: sysctl {name}"] = value
    inode = path_of_name(HOST).stat().st_ino
    found["files"] = sorted(map(str, Path("/run/netwatch").glob(f"*{inode}*")))
    return found


def differences(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    assert before.keys() == after.keys()
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


class Operator:
    """What people do with a host."""

    def __init__(self, backend: str, folder: Path, up: Callable[..., Up]) -> None:
        self.backend, self.folder, self.up = backend, folder, up
        self.environment = {"NETWATCH_STATE": str(folder / "state")}

    def netwatch(self, *arguments: str, code: int = 0) -> Said:
        program = (sys.executable, "-m", "netwatch", *arguments)
        said = run_in("a", *program, **self.environment)
        assert said.code == code, (arguments, said)
        return said

    def apply(self, *documents: str, more: tuple[str, ...] = ()) -> None:
        file = self.folder / "policies.yaml"
        file.write_text("---\n".join(documents))
        chosen = ("--policies", str(file), "--backend", self.backend)
        self.netwatch("host", "apply", *chosen, *more)


def policies(operator: Operator) -> None:
    """Enforced and staged, refused, probed, and changed: every chain and set there is."""
    operator.apply(API_FROM_WEB, STAGED)
    assert run_netwatch("lab", "connect", "rogue", "api", "80", "--timeout", "0.5").code == 3
    operator.netwatch("probe", "--to", "app=api")
    operator.apply(STAGED)
    operator.apply(API_FROM_WEB)


def confirmation(operator: Operator) -> None:
    """One that was confirmed, and one that waits while all is removed; by the other writer."""
    if writers.installed():
        operator.environment["NETWATCH_WRITER"] = "python-iptables"
    operator.apply(API_FROM_WEB, more=("--confirm", "60"))
    operator.netwatch("host", "confirm")
    operator.apply(STAGED, more=("--confirm", "60"))


def quarantined(operator: Operator) -> None:
    """Without a policy and beside one; with a forensic address and without."""
    operator.netwatch("quarantine", "rogue")
    operator.netwatch("release", "rogue")
    operator.apply(API_FROM_WEB)
    operator.netwatch("quarantine", "rogue", "--allow", "198.51.100.7", "--for", "1h")
    operator.netwatch("quarantine", "web")


def watched(operator: Operator) -> None:
    """An agent captured, counted and kept the rules while they were in force."""
    running = operator.up()
    running.ready()
    operator.apply(API_FROM_WEB, STAGED)
    assert sum(programs().values()) > 0
    assert run_netwatch("lab", "connect", "web", "api", "80").code == 0
    deadline = time.monotonic() + 10
    while not running.get("hosts")["hosts"][0]["enforcement"]["enforced"]:
        assert time.monotonic() < deadline
    running.close()


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The lab; its host has rules, a set and a switch of somebody else's."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB)
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    at(HOST, "ipset", "create", "theirs", "hash:ip")
    at(HOST, "ipset", "add", "theirs", "192.0.2.7")
    at(HOST, "nft", "add", "table", "inet", "theirs")
    at(HOST, "sysctl", "-qw", "net.bridge.bridge-nf-call-ip6tables=0")
    yield
    at(HOST, "sysctl", "-qw", "net.bridge.bridge-nf-call-ip6tables=1")
    assert run_netwatch("lab", "down").code == 0


@pytest.mark.parametrize(
    ("backend", "tables", "did"),
    [
        pytest.param("nft", "none", policies, id="nft, policies, on a host without tables"),
        pytest.param("nft", "filter", quarantined, id="nft, quarantine"),
        pytest.param("nft", "filter", watched, id="nft, with an agent"),
        pytest.param("legacy", "filter", policies, id="legacy, policies"),
        pytest.param("legacy", "filter", confirmation, id="legacy, python-iptables"),
    ],
)
def test_removing_leaves_the_host_as_it_was(
    estate: None,
    up: Callable[..., Up],
    tmp_path: Path,
    backend: str,
    tables: str,
    did: Callable[[Operator], None],
) -> None:
    """Every list of before equals that of after; a second removal finds nothing to do."""
    if tables == "filter":
        for program in (f"iptables-{backend}", f"ip6tables-{backend}"):
            if "sctp" not in at(HOST, program, "-S", "FORWARD"):
                at(HOST, program, "-A", "FORWARD", "-p", "sctp", "-j", "ACCEPT")
    operator = Operator(backend, tmp_path, up)
    before = everything(backend)
    did(operator)
    assert differences(before, everything(backend)), "so that there is something to remove"
    operator.netwatch("host", "remove", "--release-all")
    assert differences(before, everything(backend)) == {}
    again = operator.netwatch("host", "remove", "--json")
    assert again.json["removed"] is False

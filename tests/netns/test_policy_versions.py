"""A fleet of two hosts under one controller: applied, confirmed, undone, untouched by death."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.running import Up

pytestmark = pytest.mark.netns

UNDERLAY = ("ip", "netns", "exec", "nwx-underlay")
LISTEN = "[{port: 80, serve: echo}]"
LAB = f"""
hosts: [a, b]
workloads:
  - {{name: web, host: a, namespace: shop, labels: {{app: web}}}}
  - {{name: cache, host: a, namespace: shop, labels: {{app: data}}, listen: {LISTEN}}}
  - {{name: rogue, host: b, namespace: shop, labels: {{app: rogue}}}}
  - {{name: db, host: b, namespace: shop, labels: {{app: data}}, listen: {LISTEN}}}
"""
SEALED = """# the data of the shop
apiVersion: netwatch/v1
kind: Segment
metadata: {name: data, namespace: shop}
spec:
  governs: app=data
  mode: enforce
  rules:
    - {from: app=web, ports: 80, because: the shop reads its data}
"""
OPEN = {"web>cache": "open", "web>db": "open", "rogue>cache": "open", "rogue>db": "open"}
SHUT = OPEN | {"rogue>cache": "filtered", "rogue>db": "filtered"}
SLACK = 3  # semantics section 8


class Fleet:
    """A controller on the underlay and an agent on each host, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.facts: dict[str, dict[str, str]] = {}

    def begin(self) -> None:
        self.start_controller("--enrol", "a", "--enrol", "b")
        for host in ("a", "b"):
            self.start_agent(host)
        self.wait(lambda: all(h["last_report"] for h in self.hosts()), "no agent reports")

    def start_controller(self, *arguments: str) -> None:
        command = ["controller", "--json", "--agents", "192.0.2.254:8742", "--listen"]
        state = ("--state", str(self.folder / "controller"))
        process = self._start("controller", [*command, "127.0.0.1:0", *state, *arguments])
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        self.environment = {"NETWATCH_URL": first["url"], "NETWATCH_TOKEN": first["token"]}
        for _ in range(arguments.count("--enrol")):
            told = json.loads(process.stdout.readline())
            self.facts[told["host"]] = {
                f"NETWATCH_{name.upper()}": told[name]
                for name in ("controller", "controller_pin", "agent_token")
            }

    def start_agent(self, host: str) -> None:
        state = ("--state", str(self.folder / host), "--host", host, "--enforce")
        through = ("lab", "exec", host, "--", sys.executable, "-m", "netwatch", "agent", *state)
        self._start(host, list(through), **self.facts[host])

    def _start(self, name: str, arguments: list[str], **environment: str) -> subprocess.Popen[str]:
        through = UNDERLAY if name == "controller" else ()
        with (self.folder / f"{name}.stderr").open("a") as complaints:
            self.processes[name] = subprocess.Popen(
                [*through, sys.executable, "-m", "netwatch", *arguments],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )
        return self.processes[name]

    def kill(self, name: str) -> None:
        """As a crash does it."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        for host in ("a", "b"):
            run_in(host, sys.executable, "-m", "netwatch", *REMOVE)

    def policy(self, *arguments: str) -> Said:
        return run_netwatch("policy", *arguments, "--json", through=UNDERLAY, **self.environment)

    def hosts(self) -> list[Any]:
        said = run_netwatch("hosts", "--json", through=UNDERLAY, **self.environment)
        assert said.code == 0, said.err
        return list(said.json["hosts"])

    def states(self) -> set[tuple[str | None, bool, bool]]:
        """(policies in force, differs, pending) of all hosts."""
        told = ((h["enforcement"], h["differs"]) for h in self.hosts())
        return {(e["policies"], differs, e["pending"]) for e, differs in told}

    def wait(self, fact: Callable[[], object], what: str, *, deadline_s: float = 20.0) -> None:
        deadline = time.monotonic() + deadline_s
        while not fact():
            told = {f.name: f.read_text()[-1500:] for f in self.folder.glob("*.stderr")}
            assert time.monotonic() < deadline, (what, told)
            time.sleep(0.2)


REMOVE = ("host", "remove")


def reached() -> dict[str, str]:
    """What `lab connect` finds, in both kernels."""

    def tried(way: str) -> str:
        call = ("lab", "connect", *way.split(">"), "80", "--timeout", "0.5", "--json")
        return str(run_netwatch(*call).json["result"])

    with ThreadPoolExecutor() as pool:
        return dict(zip(OPEN, pool.map(tried, OPEN), strict=True))


@pytest.fixture
def fleet(lab: Callable[[str], Said], tmp_path: Path) -> Iterator[Fleet]:
    lab(LAB)
    running = Fleet(tmp_path)
    try:
        running.begin()
        yield running
    finally:
        running.close()


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    file = tmp_path / "data.yaml"
    file.write_text(SEALED)
    return file


def applied(fleet: Fleet, file: Path, *arguments: str) -> str:
    """Apply the file and wait until both hosts hold it; its hash."""
    said = fleet.policy("apply", str(file), "--author", "ada", *arguments)
    assert said.code == 0, said.err
    version = said.json["version"]
    pending = version["confirm_by"] is not None
    wanted = {(version["sha256"], False, pending)}
    fleet.wait(lambda: fleet.states() == wanted, f"{fleet.hosts()}")
    return str(version["sha256"])


def test_what_is_confirmed_stays_and_what_is_not_is_undone(fleet: Fleet, sealed: Path) -> None:
    """Both kernels hold a version within seconds; unconfirmed it goes by itself, on both."""
    assert reached() == OPEN
    sha256 = applied(fleet, sealed, "--confirm", "4", "--reason", "first", "--ticket", "S-1")
    began = time.monotonic()
    assert reached() == SHUT
    fleet.wait(lambda: reached() == OPEN, "not undone", deadline_s=4 * SLACK)
    assert time.monotonic() - began < 4 * SLACK
    fleet.wait(lambda: fleet.states() == {(None, False, False)}, f"{fleet.hosts()}")

    assert applied(fleet, sealed, "--confirm", "30") == sha256
    assert fleet.policy("confirm").code == 0
    fleet.wait(lambda: fleet.states() == {(sha256, False, False)}, f"{fleet.hosts()}")
    assert reached() == SHUT
    (second, first) = fleet.policy("versions").json["policies"]
    assert (first["state"], second["state"]) == ("withdrawn", "in-force")
    assert (first["reason"], first["ticket"]) == ("first", "S-1")

    wrong = sealed.with_name("wrong.yaml")
    wrong.write_text(SEALED.replace("mode: enforce", "mode: enfroce"))
    refused = fleet.policy("apply", str(sealed), str(wrong))
    assert refused.code == 1
    assert (refused.json["error"]["line"], refused.json["error"]["column"]) == (7, 9)
    assert fleet.states() == {(sha256, False, False)}

    assert fleet.policy("mode", "data", "stage", "--confirm", "0").code == 0
    fleet.wait(lambda: reached() == OPEN, "a staged document still drops")
    assert fleet.policy("rollback").code == 0
    fleet.wait(lambda: reached() == SHUT, "not restored")
    assert [v["restores"] for v in fleet.policy("versions").json["policies"]][0] == 2


def test_death_changes_nothing_that_was_confirmed(fleet: Fleet, sealed: Path) -> None:
    """The controller's death leaves the rules; an agent that comes back finds its last version.

    An agent that dies with an unconfirmed version is undone by the process that it left.
    """
    sha256 = applied(fleet, sealed, "--confirm", "0")
    looser = sealed.with_name("looser.yaml")
    looser.write_text(SEALED.replace("app=web", "anyone"))
    applied(fleet, looser, "--confirm", "5")
    assert reached() == OPEN
    for name in ("controller", "a", "b"):
        fleet.kill(name)
    fleet.wait(lambda: reached() == SHUT, "not undone without agents", deadline_s=5 * SLACK)

    for host in ("a", "b"):
        run_in(host, sys.executable, "-m", "netwatch", *REMOVE)
    assert reached() == OPEN
    for host in ("a", "b"):
        fleet.start_agent(host)
    fleet.wait(lambda: reached() == SHUT, "the last good version is not in force")

    fleet.start_controller()
    fleet.wait(lambda: fleet.states() == {(sha256, False, False)}, f"{fleet.hosts()}")


def test_who_observes_judges_and_touches_nothing(
    lab: Callable[[str], Said], up: Callable[..., Up], sealed: Path
) -> None:
    """Without --enforce no rule is made; each flow says what the version would have done."""
    lab(LAB)
    running = up()
    running.ready()
    remote = {"NETWATCH_URL": running.url, "NETWATCH_TOKEN": running.token}
    said = run_netwatch("policy", "apply", str(sealed), "--confirm", "0", "--json", **remote)
    assert said.code == 0, said.err

    def judged() -> set[tuple[str, str]]:
        reached()
        flows = running.get("flows")["flows"]
        mine = [f for f in flows if f["server"]["port"] == 80 and f["host"] == "a"]
        return {(f["verdict"], f["staged"]) for f in mine}

    running.wait(lambda: judged() >= {("allow", "deny"), ("allow", "allow")}, "no flow is judged")
    assert reached() == OPEN
    for host in running.get("hosts")["hosts"]:
        told = host["enforcement"]
        assert (told["mode"], told["policies"], told["problem"]) == ("observe", None, None)
        assert host["differs"]
        rules = run_in(host["host"], "iptables-save").out
        assert "NW-" not in rules and "ipset" not in rules
    shown = run_netwatch("policy", "show", "--version", "1", "--text", **remote)
    assert SEALED in shown.out

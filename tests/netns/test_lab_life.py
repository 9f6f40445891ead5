"""The life of a lab: two hosts behind NAT, an end without a trace, a start that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netwatch.discover.lab import find_lab
from netwatch.kernel.namespaces import path_of_name
from tests.netns.conftest import SHOP, Said

pytestmark = pytest.mark.netns
Netwatch = Callable[..., Said]

TWINS = """\
hosts: [a, b]
underlay: nat
workloads:
  - name: left
    host: a
    addresses: [198.18.9.10, "2001:db8:9::10"]
    listen: [{port: 80, serve: http}, {port: 7, protocol: udp}]
  - name: right
    host: b
    addresses: [198.18.9.10, "2001:db8:9::10"]
    listen: [{port: 80, serve: http}, {port: 7, protocol: udp}, {port: 9, documented: false}]
  - name: other
    host: b
    addresses: [198.18.9.11, "2001:db8:9::11"]
    listen: [{port: 80, serve: http}]
"""
PAIR = """\
hosts: [a]
workloads:
  - {name: one, host: a, calls: [{to: two, port: 7, every: 0.1}]}
  - {name: two, host: a, listen: [{port: 7}]}
"""


def namespaces() -> list[str]:
    """The lab's names, as everybody sees them."""
    return [name for name in os.listdir("/run/netns") if name.startswith("nw")]


def processes() -> list[str]:
    """Command lines of what a lab starts; a zombie has none."""
    lines = (Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit())
    found = []
    for line in lines:
        try:
            text = line.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "netwatch.lab.serve" in text or "redis-server" in text:
            found.append(text)
    return found


def assert_no_trace() -> None:
    assert namespaces() == []
    assert processes() == []
    own = f".{os.stat('/proc/self/ns/net').st_ino}."  # what tests before kept for this namespace
    assert [p for p in Path("/run/netwatch").rglob("*") if own not in p.name] == []


class TestNat:
    """Two hosts that own the same subnet, behind masquerading hosts, as plain Docker does."""

    @pytest.mark.parametrize("family", ["4", "6"])
    def test_equal_addresses_on_two_hosts_are_two_workloads(
        self, netwatch: Netwatch, lab: Callable[[str | Path], Said], family: str
    ) -> None:
        """A name leads to its own host's workload or to the other host's published port."""
        lab(TWINS)

        def tried(source: str, target: str, port: int, *more: str) -> tuple[str, str, int]:
            arguments = [source, target, str(port), "--family", family, "--json", *more]
            said = netwatch("lab", "connect", *arguments)
            return said.json["result"], said.json["address"], said.json["port"]

        own = "198.18.9.10" if family == "4" else "2001:db8:9::10"
        a, b = (f"192.0.2.{n}" if family == "4" else f"2001:db8:0:ffff::{n}" for n in (1, 2))
        assert tried("left", "right", 80) == ("open", b, 80)
        assert tried("right", "left", 80) == ("open", a, 80)
        assert tried("other", "right", 80)[:2] == ("open", own)
        assert tried("left", "other", 80) == ("open", b, 20000)
        assert tried("left", "right", 7, "--udp") == ("open", b, 7)
        assert tried("left", "right", 9) == ("refused", b, 9)

    def test_the_other_host_sees_the_address_of_the_host(
        self, netwatch: Netwatch, lab: Callable[[str | Path], Said]
    ) -> None:
        """Masquerading hides the workload, so its neighbour is not routed."""
        lab(TWINS)
        netwatch("lab", "connect", "left", "right", "80")
        seen = netwatch("lab", "exec", "b", "--", "cat", "/proc/net/nf_conntrack").out
        dumped = seen or netwatch("lab", "exec", "b", "--", "conntrack", "-L").out
        assert "src=192.0.2.1 dst=192.0.2.2" in dumped
        assert "src=198.18.9.10 dst=192.0.2.1" in dumped
        source = find_lab(path_of_name("nwh-a"))
        assert source is not None
        source.start(lambda: None)
        source.close()
        (neighbour,) = source.snapshot().neighbours
        assert neighbour.routed is False
        doors = {(w.name, p.host_port, p.port) for w in neighbour.workloads for p in w.published}
        assert doors == {("right", 80, 80), ("right", 7, 7), ("other", 20000, 80)}


class TestEnd:
    """`lab down`, whatever came before it."""

    def test_nothing_is_left(self, netwatch: Netwatch) -> None:
        """No namespace, process or file; and a second `down` is fine."""
        assert netwatch("lab", "up", str(SHOP)).code == 0
        assert processes() != []
        assert netwatch("lab", "down").code == 0
        assert_no_trace()
        assert netwatch("lab", "down").code == 0

    @pytest.mark.parametrize("reached", ["intent", "namespaces", "processes", "up"])
    def test_a_killed_up_is_cleared_by_down(self, netwatch: Netwatch, reached: str) -> None:
        """SIGKILL at any stage; a new lab is refused until `down`, and fine after it."""
        reasons: dict[str, Callable[[], bool]] = {
            "intent": Path("/run/netwatch/lab.json").exists,
            "namespaces": lambda: len(namespaces()) > 5,
            "processes": lambda: any("netwatch.lab.serve" in line for line in processes()),
            "up": Path("/run/netwatch/lab/b.json").exists,
        }
        up = subprocess.Popen([sys.executable, "-m", "netwatch", "lab", "up", str(SHOP)])
        deadline = time.monotonic() + 20
        while not reasons[reached]():
            assert time.monotonic() < deadline
        up.send_signal(signal.SIGKILL)
        up.wait()
        refused = netwatch("lab", "up", str(SHOP))
        assert refused.code == 1
        assert "already up" in refused.err
        assert netwatch("lab", "down").code == 0
        assert_no_trace()
        assert netwatch("lab", "up", str(SHOP)).code == 0
        assert netwatch("lab", "down").code == 0

    def test_a_process_that_somebody_runs_in_a_workload_goes_too(
        self, netwatch: Netwatch, lab: Callable[[str | Path], Said]
    ) -> None:
        """It would keep the namespace alive without a name."""
        lab(PAIR)
        arguments = [sys.executable, "-m", "netwatch", "lab", "exec", "one", "--", "sleep", "60"]
        sleeper = subprocess.Popen(arguments)
        inode = path_of_name("nw-one").stat().st_ino
        deadline = time.monotonic() + 10
        while Path(f"/proc/{sleeper.pid}/ns/net").stat().st_ino != inode:
            assert time.monotonic() < deadline
        assert netwatch("lab", "down").code == 0
        assert sleeper.wait(5) == -signal.SIGKILL
        assert_no_trace()

    def test_a_failed_up_undoes_everything(self, tmp_path: Path) -> None:
        """Namespaces and links are there when iptables turns out to be missing."""
        file = tmp_path / "lab.yaml"
        file.write_text(TWINS)
        said = subprocess.run(
            [sys.executable, "-m", "netwatch", "lab", "up", str(file)],
            env={**os.environ, "PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 1
        assert "apt-get install iptables" in said.stderr
        assert len(said.stderr.splitlines()) == 1
        assert_no_trace()

    def test_a_broken_file_is_refused_before_anything_is_made(
        self, netwatch: Netwatch, tmp_path: Path
    ) -> None:
        """The JSON of the error names the line."""
        file = tmp_path / "bad.yaml"
        file.write_text("hosts: [a]\nworkloads: [{name: w, host: b}]\n")
        said = netwatch("lab", "up", str(file), "--json")
        assert said.code == 1
        assert said.json["error"]["line"] == 2
        assert_no_trace()

    def test_without_a_lab_the_verbs_say_so(self, netwatch: Netwatch) -> None:
        """connect and exec need a lab; the sentence says how to get one."""
        for arguments in (["connect", "a", "b", "1"], ["exec", "a", "--", "true"]):
            said = netwatch("lab", *arguments)
            assert said.code == 1
            assert "netwatch lab up" in said.err


def test_a_missing_redis_is_said_and_the_rest_comes_up(tmp_path: Path, netwatch: Netwatch) -> None:
    """The port is skipped, in words, and nothing pretends to be Redis."""
    file = tmp_path / "lab.yaml"
    listen = "listen: [{port: 6379, serve: redis}, {port: 7}]"
    file.write_text(f"hosts: [a]\nworkloads: [{{name: w, host: a, {listen}}}]\n")
    without = {**os.environ, "PATH": str(tmp_path)}
    up = subprocess.run(
        [sys.executable, "-m", "netwatch", "lab", "up", str(file)],
        env=without,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        assert up.returncode == 0
        assert "w does not serve 6379: redis-server is not installed" in up.stderr
        assert netwatch("lab", "connect", "a", "w", "6379").code == 3
        assert netwatch("lab", "connect", "a", "w", "7").code == 0
    finally:
        assert netwatch("lab", "down").code == 0

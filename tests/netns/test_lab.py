"""A lab of real namespaces: it behaves as its file says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netwatch.discover.lab import find_lab
from netwatch.kernel.namespaces import path_of_name
from netwatch.lab.document import load
from tests.netns.conftest import SHOP, Said

pytestmark = pytest.mark.netns
Netwatch = Callable[..., Said]


class TestShop:
    """Questions to the demo estate that leave it as it is."""

    @pytest.fixture(autouse=True)
    def _up(self, shop: Said) -> Iterator[None]:
        yield

    def test_every_listener_accepts_when_up_returns(self, netwatch: Netwatch) -> None:
        """Each port, documented or not, answers on both families as soon as `lab up` is done."""
        for workload in load(SHOP).workloads:
            for listen in workload.listen:
                for family in ("4", "6"):
                    how = ["--udp"] if listen.protocol == "udp" else []
                    where = [workload.name, str(listen.port), "--family", family]
                    said = netwatch("lab", "connect", "edge", *where, *how)
                    assert said.code == 0, (where, said.out, said.err)

    @pytest.mark.parametrize("family", ["4", "6"])
    @pytest.mark.parametrize(
        ("source", "target", "port", "more", "result"),
        [
            pytest.param("web", "api", "8443", [], "open", id="tcp, across hosts"),
            pytest.param("web", "metrics", "8125", ["--udp"], "open", id="udp, on one bridge"),
            pytest.param("api", "metrics", "8125", ["--udp"], "open", id="udp, across hosts"),
            pytest.param("a", "db", "5432", [], "open", id="from a host"),
            pytest.param("rogue", "internet", "443", [], "open", id="to the internet"),
            pytest.param("internet", "db", "5432", [], "open", id="from the internet, routed"),
            pytest.param("db", "db", "5432", [], "open", id="to itself"),
            pytest.param("web", "db", "5433", [], "refused", id="tcp, nobody listens"),
            pytest.param("web", "db", "5433", ["--udp"], "refused", id="udp, nobody listens"),
            pytest.param("web", "b", "81", [], "refused", id="to a host"),
        ],
    )
    def test_a_connection_says_what_became_of_it(
        self,
        netwatch: Netwatch,
        source: str,
        target: str,
        port: str,
        more: list[str],
        result: str,
        family: str,
    ) -> None:
        """open ends with 0, anything else with 3; the JSON says which."""
        arguments = ["lab", "connect", source, target, port, "--family", family, "--json", *more]
        said = netwatch(*arguments)
        assert (said.json["ok"], said.json["result"]) == (True, result), said
        assert said.code == (0 if result == "open" else 3)
        assert 0 <= said.json["ms"] < 1000

    @pytest.mark.parametrize("address", ["198.18.2.99", "2001:db8:2::99"])
    def test_silence_is_filtered_after_the_timeout(self, netwatch: Netwatch, address: str) -> None:
        """Nobody has the address, so nobody answers."""
        said = netwatch("lab", "connect", "web", address, "80", "--timeout", "0.3", "--json")
        assert said.json["result"] == "filtered"
        assert said.code == 3
        assert 290 < said.json["ms"] < 1000

    @pytest.mark.parametrize(
        ("rule", "more", "result"),
        [
            pytest.param(["-p", "tcp", "-j", "DROP"], [], "filtered", id="drop"),
            pytest.param(
                ["-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"],
                [],
                "refused",
                id="reset",
            ),
            pytest.param(["-p", "udp", "-j", "REJECT"], ["--udp"], "refused", id="unreachable"),
            pytest.param(
                ["-p", "tcp", "-j", "REJECT", "--reject-with", "PROHIBITED"],
                [],
                "filtered",
                id="prohibited",
            ),
        ],
    )
    @pytest.mark.parametrize("family", ["4", "6"])
    def test_rules_of_the_host_decide(
        self, netwatch: Netwatch, rule: list[str], more: list[str], result: str, family: str
    ) -> None:
        """What crosses the bridge passes the host's FORWARD chain: br_netfilter is on."""
        program = "iptables" if family == "4" else "ip6tables"
        prohibited = "icmp-admin-prohibited" if family == "4" else "icmp6-adm-prohibited"
        port = "8125" if more else "9100"
        target, source = ("metrics", "web") if more else ("web", "metrics")
        rule = [prohibited if word == "PROHIBITED" else word for word in rule]

        def change(action: str) -> None:
            said = netwatch("lab", "exec", "a", "--", program, "-w", action, "FORWARD", *rule)
            assert said.code == 0, said.err

        change("-I")
        try:
            timeout = ["--timeout", "0.5", "--family", family]
            said = netwatch("lab", "connect", source, target, port, "--json", *timeout, *more)
            assert said.json["result"] == result
        finally:
            change("-D")

    def test_refusals_are_not_rationed(self, netwatch: Netwatch) -> None:
        """Linux sends one ICMP error a second to a host after the first six; a lab does not."""
        for _ in range(12):
            arguments = ["lab", "connect", "web", "db", "5433", "--udp", "--timeout", "0.5"]
            assert netwatch(*arguments, "--json").json["result"] == "refused"

    def test_exec_runs_in_the_network_of_a_workload_or_host(self, netwatch: Netwatch) -> None:
        """Only the network namespace is another one; options of the command are its own."""
        said = netwatch("lab", "exec", "web", "--", "ip", "-o", "-4", "addr", "show", "eth0")
        assert "198.18.1.11/24" in said.out
        said = netwatch("lab", "exec", "b", "--", "ip", "-o", "-4", "addr", "show", "br0")
        assert "198.18.2.1/24" in said.out
        said = netwatch("lab", "exec", "web", "--", "cat", "/proc/self/mountinfo")
        assert said.out == Path("/proc/self/mountinfo").read_text()

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    def test_the_exit_code_of_exec_is_that_of_the_command(
        self, netwatch: Netwatch, code: int
    ) -> None:
        """A script may branch on it."""
        assert netwatch("lab", "exec", "web", "--", "sh", "-c", f"exit {code}").code == code

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            pytest.param(["exec", "nobody", "--", "true"], "nobody", id="exec in nothing"),
            pytest.param(["exec", "web", "--", "/no/such"], "can not be run", id="no program"),
            pytest.param(["connect", "nobody", "web", "80"], "nobody", id="no source"),
            pytest.param(["connect", "web", "nobody", "80"], "nobody", id="no destination"),
            pytest.param(["connect", "web", "no.body", "80"], "no.body", id="a name of the DNS"),
            pytest.param(
                ["connect", "web", "198.18.2.10", "80", "--family", "6"], "IPv6", id="family"
            ),
            pytest.param(["up", str(SHOP)], "already up", id="a second lab"),
        ],
    )
    def test_what_can_not_be_done_is_one_sentence(
        self, netwatch: Netwatch, arguments: list[str], words: str
    ) -> None:
        """Exit code 1, one line that names the thing, no traceback."""
        said = netwatch("lab", *arguments)
        assert said.code == 1
        assert words in said.err
        assert len(said.err.splitlines()) == 1

    def test_discovery_of_a_host_finds_its_workloads_and_no_call(self) -> None:
        """The source for a host's namespace knows what a runtime would, and nothing of `calls`."""
        source = find_lab(path_of_name("nwh-b"))
        assert source is not None
        source.start(lambda: None)
        try:
            snapshot = source.snapshot()
        finally:
            source.close()
        assert snapshot.host == "b"
        assert snapshot.problem is None
        names = {workload.name: workload for workload in snapshot.workloads}
        assert set(names) == {"api", "db", "cache", "queue", "worker", "report"}
        assert names["worker"].ports == ()
        assert names["db"].documents("tcp", 5432) is not None
        assert Path(f"/proc/{names['db'].pid}/ns/net").stat().st_ino == (
            path_of_name("nw-db").stat().st_ino
        )
        text = Path("/run/netwatch/lab/b.json").read_text()
        assert "call" not in text and "8089" not in text

    def test_discovery_names_the_interface_that_leads_to_the_workload(
        self, netwatch: Netwatch
    ) -> None:
        """The index is the host's end of the link: its peer is eth0 in the workload."""
        source = find_lab(path_of_name("nwh-b"))
        assert source is not None
        source.start(lambda: None)
        source.close()
        links = json.loads(netwatch("lab", "exec", "b", "--", "ip", "-j", "link").out)
        indexes = {link["ifname"]: link["ifindex"] for link in links}
        for workload in source.snapshot().workloads:
            (interface,) = workload.interfaces
            assert indexes[interface.name] == interface.index
            there = netwatch("lab", "exec", workload.name, "--", "ip", "-j", "link")
            peers = {link["ifname"]: link.get("link_index") for link in json.loads(there.out)}
            assert peers["eth0"] == interface.index

    def test_outside_a_lab_host_there_is_no_lab(self) -> None:
        """A workload's namespace, or that of this test, is no host."""
        assert find_lab(None) is None
        assert find_lab(path_of_name("nw-web")) is None

    def test_the_wire_carries_the_calls_of_the_file_and_nothing_else(
        self, netwatch: Netwatch
    ) -> None:
        """Every call of host a's workloads is seen on its bridge, and no other conversation."""
        lab = load(SHOP)
        addresses = {
            address: str(workload["name"])
            for name in lab.hosts
            for workload in _known(name)
            for address in workload["addresses"]
        }
        addresses |= {"203.0.113.10": "internet", "2001:db8:ffff::10": "internet"}
        wanted = {(w.name, call.to, call.port) for w in lab.workloads for call in w.calls}
        homes = {w.name: w.host for w in lab.workloads} | {"internet": "internet"}
        for host in lab.hosts:
            seen = _conversations(host, addresses)
            assert seen == {one for one in wanted if host in (homes[one[0]], homes[one[1]])}


def _known(host: str) -> list[dict[str, list[str]]]:
    snapshot = json.loads(Path(f"/run/netwatch/lab/{host}.json").read_text())
    workloads: list[dict[str, list[str]]] = snapshot["workloads"]
    return workloads


def _conversations(host: str, addresses: dict[str, str]) -> set[tuple[str, str, int]]:
    """(client, server, port) of every SYN and datagram on a host's bridge in 6 seconds."""
    syn = "(tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn) or (ip6[6] == 6 and ip6[53] & 18 == 2)"
    command = ["tcpdump", "-nqlt", "-i", "br0", f"{syn} or udp or icmp"]
    # 6 s: the rarest call of the estate comes every 5
    done = subprocess.run(
        ["ip", "netns", "exec", f"nwh-{host}", "timeout", "6", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    found: set[tuple[str, str, int]] = set()
    for line in filter(None, done.stdout.splitlines()):
        said = re.match(r"IP6? (\S+)\.(\d+) > (\S+)\.(\d+): (tcp|UDP)", line)
        assert said, f"neither a SYN nor a datagram: {line}"
        client, server = addresses[said[1]], addresses[said[3]]
        answers = [one for one in found if one == (server, client, int(said[2]))]
        if not answers:
            found.add((client, server, int(said[4])))
    return found

"""Policies in the kernel of a lab host: blocked is blocked, allowed stays allowed, and it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from netwatch.lab.connect import connect
from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.small_shop import (
    API_FROM_WEB,
    FROM_WEB,
    HOST,
    LAB,
    PING,
    SILENCE_S,
    network_policy,
)

pytestmark = pytest.mark.netns


def inside(*command: str) -> str:
    """Run a command on the lab host; its output."""
    done = subprocess.run(
        ["ip", "netns", "exec", HOST, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def host(*arguments: str) -> Said:
    """`netwatch host …` on the lab host."""
    program = (sys.executable, "-m", "netwatch", "host")
    return run_in("a", *program, *arguments)


def call(source: str, target: str, port: int, *, family: int = 4, udp: bool = False) -> bool:
    """Whether the call gets through: `netwatch lab connect`, in this process."""
    tried = connect(source, target, port, udp=udp, family=family, timeout_s=SILENCE_S)
    return tried.result == "open"


def ping(workload: str, target: str, source: str) -> bool:
    """Whether an echo from this address of the workload is answered."""
    command = (sys.executable, "-c", PING, target, source)
    return run_in(workload, *command).code == 0


def left(backend: str) -> dict[str, object]:
    """Everything that netwatch could leave behind on the host, counters and comments aside."""
    found: dict[str, object] = {"sets": inside("ipset", "save")}
    for program in (f"iptables-{backend}-save", f"ip6tables-{backend}-save"):
        lines = inside(program).splitlines()
        found[program] = [line.split(" [")[0] for line in lines if not line.startswith("#")]
    found["nft"] = inside("nft", "list", "tables")
    return found


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The lab, and `netwatch` on PATH inside it."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB)
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    yield
    assert run_netwatch("lab", "down").code == 0


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest, estate: None) -> Iterator[str]:
    """Each test once with each of the two iptables, on a host that had nothing before."""
    chosen = str(request.param)
    yield chosen
    assert host("remove").code == 0


@pytest.fixture
def put(tmp_path: Path, backend: str) -> Callable[..., Said]:
    """Apply documents; fails the test if that fails."""

    def put(*documents: str, more: tuple[str, ...] = ()) -> Said:
        file = tmp_path / "policies.yaml"
        file.write_text("---\n".join(documents))
        arguments = ("--policies", str(file), "--backend", backend, "--json", *more)
        said = host("apply", *arguments)
        assert said.code == 0, said.err
        return said

    return put


@pytest.mark.parametrize("family", [4, 6])
def test_blocked_is_blocked_and_allowed_stays_allowed(
    put: Callable[..., Said], family: int
) -> None:
    """Ingress isolation of one workload, TCP and UDP, and nobody else is touched."""
    put(API_FROM_WEB)
    seen = {
        (source, target, port, udp): call(source, target, port, family=family, udp=udp)
        for source, target in (("web", "api"), ("rogue", "api"), ("api", "web"), ("rogue", "web"))
        for port, udp in ((80, False), (81, False), (53, True))
    }
    through = {
        *((s, t, p, u) for s, t, p, u in seen if t == "web"),
        ("web", "api", 80, False),
        ("web", "api", 53, True),
    }
    assert {key for key, open_ in seen.items() if open_} == through


def test_isolation_is_per_direction(put: Callable[..., Said]) -> None:
    """An isolated egress lets calls in; an isolated ingress lets calls out."""
    put(network_policy("web", "Egress", f"egress: [{{to: [{FROM_WEB.replace('web', 'api')}]}}]"))
    assert call("web", "api", 81)
    assert not call("web", "rogue", 80)
    assert call("rogue", "web", 80)


def test_a_rule_without_ports_means_every_port_and_protocol(put: Callable[..., Said]) -> None:
    put(network_policy("api", "Ingress", f"ingress: [{{from: [{FROM_WEB}]}}]"))
    assert call("web", "api", 81)
    assert call("web", "api", 53, udp=True)
    assert not call("rogue", "api", 81)
    assert ping("web", "198.18.1.11", "198.18.1.10")
    assert not ping("rogue", "198.18.1.11", "198.18.1.12")


def test_an_ip_block_holds_workloads_and_not_its_exceptions(put: Callable[..., Said]) -> None:
    put(
        network_policy(
            "api",
            "Ingress",
            "ingress: [{from: [{ipBlock: {cidr: 198.18.0.0/15, except: [198.18.1.12/32]}}]}]",
        )
    )
    assert call("web", "api", 81)
    assert not call("rogue", "api", 81)
    assert not call("web", "api", 81, family=6)


def test_a_port_from_anyone_is_open_to_those_whose_egress_is(put: Callable[..., Said]) -> None:
    """Allow-from-anywhere has no source in its set: an isolated egress must still deny."""
    put(
        network_policy("api", "Ingress", "ingress: [{ports: [{port: 80}]}]"),
        network_policy("web", "Egress", "egress: [{ports: [{port: 81}]}]"),
    )
    assert call("rogue", "api", 80)
    assert not call("rogue", "api", 81)
    assert not call("web", "api", 80)
    assert call("web", "rogue", 81)


@pytest.mark.parametrize("mode", ["observe", "stage"])
def test_observing_and_staging_never_touch_a_packet(put: Callable[..., Said], mode: str) -> None:
    put(network_policy("api", "Ingress, Egress", "", mode=mode))
    assert call("rogue", "api", 80)
    rules = inside("iptables-nft-save") + inside("ip6tables-nft-save")
    assert "DROP" not in rules
    assert "REJECT" not in rules


def test_an_unknown_source_on_a_closed_network_is_dropped(put: Callable[..., Said]) -> None:
    """An address that no workload has reaches nobody there, isolated or not."""
    put(API_FROM_WEB)
    rogue = ("lab", "exec", "rogue", "--", "ip", "address")
    run_netwatch(*rogue, "add", "198.18.1.99/24", "dev", "eth0")
    try:
        assert not ping("rogue", "198.18.1.10", "198.18.1.99")
        assert ping("rogue", "198.18.1.10", "198.18.1.12")
    finally:
        run_netwatch(*rogue, "del", "198.18.1.99/24", "dev", "eth0")


CONVERSATION = f"""
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
link = socket.socket(family); link.settimeout({SILENCE_S}); link.connect((sys.argv[1], 80))
def alive():
    try:
        link.sendall(b"x"); return link.recv(1) == b"x"
    except OSError:
        return False
print(alive(), flush=True)
for line in sys.stdin:
    print(alive(), flush=True)
"""


@dataclass
class Conversation:
    """A TCP session between workloads that stays open and is silent until asked."""

    child: subprocess.Popen[str]

    @property
    def alive(self) -> bool:
        """Whether one byte still comes back."""
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return self.child.stdout.readline() == "True\n"


@contextmanager
def conversation(source: str, target: str) -> Iterator[Conversation]:
    """A session from a workload to an address, port 80."""
    child = subprocess.Popen(
        ["ip", "netns", "exec", f"nw-{source}", sys.executable, "-c", CONVERSATION, target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        yield Conversation(child)
        child.kill()


def test_a_withdrawn_edge_ends_its_session(put: Callable[..., Said]) -> None:
    """What is established goes first, so a session that became forbidden is cut by its entry."""
    put(API_FROM_WEB)
    with conversation("web", "198.18.1.11") as session:
        answer = put(network_policy("api", "Ingress", "ingress: []")).json
        assert not session.alive
    assert any("198.18.1.10 -> 198.18.1.11 tcp/80" in each for each in answer["sessions_cut"])


@pytest.mark.parametrize(
    ("web", "api", "rogue"),
    [
        pytest.param("198.18.1.10", "198.18.1.11", "198.18.1.12", id="IPv4"),
        pytest.param("2001:db8:1::10", "2001:db8:1::11", "2001:db8:1::12", id="IPv6"),
    ],
)
def test_the_first_activation_breaks_no_session_that_is_allowed(
    put: Callable[..., Said], backend: str, tmp_path: Path, web: str, api: str, rogue: str
) -> None:
    """Sessions from before, silent while it begins: the allowed one lives, the other is cut.

    The plan names the other before anything is done, the host, and what becomes fail-closed.
    """
    file = tmp_path / "planned.yaml"
    file.write_text(API_FROM_WEB)
    with conversation("web", api) as allowed, conversation("rogue", api) as forbidden:
        plan = host("plan", "--policies", str(file), "--backend", backend, "--json").json
        assert (plan["host"], len(plan["fail_closed"])) == ("a", 1)
        assert f"{rogue} -> {api} tcp/80" in plan["sessions_cut"]
        assert f"{web} -> {api} tcp/80" not in plan["sessions_cut"]
        assert forbidden.alive
        answer = put(API_FROM_WEB).json
        assert allowed.alive
        assert not forbidden.alive
    assert f"{rogue} -> {api} tcp/80" in answer["sessions_cut"]
    assert f"{web} -> {api} tcp/80" not in answer["sessions_cut"]


DRIFTS = {
    "jump gone": ("iptables-{b}", "-D", "INPUT", "1"),
    "everything flushed": ("iptables-{b}", "-F"),
    "jump not first": ("ip6tables-{b}", "-I", "OUTPUT", "1", "-j", "ACCEPT"),
    "a foreign rule in our chain": ("iptables-{b}", "-I", "NW-NEW", "1", "-j", "RETURN"),
    "a member gone": ("ipset", "del", "nw-iso-in4", "198.18.1.11"),
    "a member too many": ("ipset", "add", "nw-edge4", "198.18.1.12,tcp:80,198.18.1.11"),
}


def test_verify_sees_what_others_changed_and_apply_mends_it(
    put: Callable[..., Said], backend: str
) -> None:
    """One change after the other: what was mended is right again before the next."""
    put(API_FROM_WEB)
    assert host("verify").code == 0
    for drift, command in DRIFTS.items():
        inside(*(part.format(b=backend) for part in command))
        seen = host("verify", "--json")
        assert seen.code == 3, drift
        assert len(seen.json["drift"]) >= 1, drift
        put(API_FROM_WEB)
        assert host("verify").code == 0, drift
        assert not call("rogue", "api", 80), drift
        if "-I" in command and "OUTPUT" in command:
            inside(f"ip6tables-{backend}", "-D", "OUTPUT", "-j", "ACCEPT")


def test_remove_leaves_the_host_as_it_was(put: Callable[..., Said], backend: str) -> None:
    """Rules, sets, and the table that iptables-nft made for us; a second remove is fine."""
    inside(f"iptables-{backend}-save")
    if backend == "legacy":  # a legacy table can not be unmade once anybody asked for it
        inside("iptables-legacy", "-L"), inside("ip6tables-legacy", "-L")
    before = left(backend)
    put(API_FROM_WEB)
    assert left(backend) != before
    assert host("remove").code == 0
    assert left(backend) == before
    again = host("remove", "--json")
    assert (again.code, again.json["removed"]) == (0, False)


def test_what_is_not_confirmed_is_undone(put: Callable[..., Said]) -> None:
    """A process of its own restores what was before; a confirmed change stays."""
    put(API_FROM_WEB)
    before = inside("ipset", "list", "-n")
    put(network_policy("web", "Ingress", ""), more=("--confirm", "2"))
    assert host("apply", "--policies", "/nonexistent.yaml").code == 1
    end = time.monotonic() + 30
    while list(_pending()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not list(_pending())
    assert host("verify").code == 0
    assert inside("ipset", "list", "-n") == before
    assert call("rogue", "web", 80) and not call("rogue", "api", 80)
    put(network_policy("web", "Ingress", ""), more=("--confirm", "60"))
    assert host("confirm").code == 0
    assert host("confirm").code == 1


def _pending() -> Iterator[Path]:
    """What says that an apply waits for its confirmation, or is being undone."""
    for state in ("pending", "undoing"):
        yield from Path("/run/netwatch").glob(f"enforce.*.{state}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("kind: [", "", id="not YAML"),
        pytest.param(
            API_FROM_WEB.replace("podSelector:", "podSelektor:"), "podSelektor", id="typo"
        ),
    ],
)
def test_a_broken_document_changes_nothing(
    put: Callable[..., Said], tmp_path: Path, text: str, says: str
) -> None:
    put(API_FROM_WEB)
    before = inside("ipset", "save")
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    said = host("apply", "--policies", str(file), "--json")
    assert said.code == 1
    answer = json.loads(said.out)
    assert not answer["ok"]
    assert says in answer["error"]["message"]
    assert inside("ipset", "save") == before


@pytest.mark.parametrize("lacking", ["iptables", "ipset"])
def test_a_missing_program_is_one_sentence_with_its_remedy(
    put: Callable[..., Said], tmp_path: Path, lacking: str
) -> None:
    """Without the program on PATH nothing is changed, and the sentence says what to install."""
    bare = tmp_path / "bin"
    bare.mkdir()
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(folder).iterdir():
            if program.name != lacking and not (bare / program.name).exists():
                os.symlink(program, bare / program.name)
    file = tmp_path / "policies.yaml"
    file.write_text(API_FROM_WEB)

    program = (sys.executable, "-m", "netwatch", "host", "apply", "--policies", str(file))
    said = run_in("a", "env", f"PATH={bare}", *program)
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        f"netwatch: the program {lacking} is not installed (install it: apt-get install {lacking})"
    )
    assert "nw-" not in inside("ipset", "list", "-n")

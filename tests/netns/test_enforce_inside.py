"""Where the host's rules see nothing, the workload's namespace holds them, and lets go again."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from netwatch.enforce import host, upkeep
from netwatch.kernel.commands import check, run
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.snapshot import Network, Quarantine, Snapshot
from netwatch.model.workload import Interface, Label, Workload
from tests.netns.small_shop import SILENCE_S, network_policy

pytestmark = pytest.mark.netns

HERE = "nwi-host"
WITHIN = ("nsenter", f"--net=/run/netns/{HERE}")  # the files of sysctls differ by namespace
NAMES = ("web", "api", "rogue")
ADDRESS = {name: (f"198.18.9.{n}", f"2001:db8:9::{n}") for n, name in enumerate(NAMES, 10)}
TO_API = network_policy(
    "api",
    "Ingress",
    "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}],"
    " ports: [{port: 80}, {port: 53, protocol: UDP}, {port: 9000, endPort: 9999}]}]",
)
ONLY_WEB = network_policy(
    "rogue", "Egress", "egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]"
)


def ip(*arguments: str, at: str = HERE) -> str:
    return check(["ip", "-n", at, *arguments])


@dataclass
class Estate:
    """A host and three workloads on one network, each with a process of its own."""

    driver: str
    processes: dict[str, subprocess.Popen[bytes]]

    def snapshot(self) -> Snapshot:
        bridge = "br9" if self.driver == "bridge" else None
        network = Network("lan", self.driver, bridge, ("198.18.9.0/24", "2001:db8:9::/64"))
        workloads = tuple(
            Workload(
                "h",
                "shop",
                name,
                "netns",
                labels=(Label("app", name, "lab"),),
                addresses=ADDRESS[name],
                interfaces=(Interface(f"v{name}", 1, bridge, "lan"),) if bridge else (),
                networks=("lan",),
                pid=process.pid,
            )
            for name, process in self.processes.items()
        )
        return Snapshot("h", workloads, (network,))

    def start(self, name: str) -> None:
        """A namespace, its link, and a process in it."""
        space = f"nwi-{name}"
        check(["ip", "netns", "add", space])
        if self.driver == "bridge":
            ip("link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", f"v{name}", "master", "br9", "up")
        else:
            kind = ("type", "macvlan", "mode", "bridge")
            ip("link", "add", "link", "parent", "name", "eth0", "netns", space, *kind)
        for device in ("lo", "eth0"):
            ip("link", "set", device, "up", at=space)
        ip("addr", "add", f"{ADDRESS[name][0]}/24", "dev", "eth0", at=space)
        ip("addr", "add", f"{ADDRESS[name][1]}/64", "dev", "eth0", "nodad", at=space)
        command = ["ip", "netns", "exec", space, "sleep", "600"]
        self.processes[name] = subprocess.Popen(command)
        own, deadline = path_of_name(space).stat().st_ino, time.monotonic() + 5
        while Path(f"/proc/{self.processes[name].pid}/ns/net").stat().st_ino != own:
            assert time.monotonic() < deadline

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        run(["ip", "-n", HERE, "link", "del", f"v{name}"])
        check(["ip", "netns", "del", f"nwi-{name}"])


@pytest.fixture(params=["macvlan", "bridge"])
def estate(request: pytest.FixtureRequest) -> Iterator[Estate]:
    """macvlan, and a bridge of a host without br_netfilter."""
    made = Estate(str(request.param), {})
    check(["ip", "netns", "add", HERE])
    hidden = made.driver == "bridge"
    try:
        if hidden:
            switch = Path("/proc/sys/net/bridge")
            for family in ("ip", "ip6"):
                value = switch / f"bridge-nf-call-{family}tables"
                inside(path_of_name(HERE), partial(value.write_text, "0"))
            check([*WITHIN, "mount", "-t", "tmpfs", "none", str(switch)])  # as if it were missing
            ip("link", "add", "br9", "type", "bridge")
            ip("link", "set", "br9", "up")
        else:
            ip("link", "add", "parent", "type", "veth", "peer", "name", "other")
            ip("link", "set", "parent", "up")
            ip("link", "set", "other", "up")
        for name in NAMES:
            made.start(name)
        yield made
    finally:
        for name in list(made.processes):
            made.stop(name)
        if hidden:
            check([*WITHIN, "umount", "/proc/sys/net/bridge"])
        run(["ip", "netns", "del", HERE])


@pytest.fixture
def backend() -> str:
    return "nft"


@pytest.fixture
def apply(backend: str, estate: Estate, tmp_path: Path) -> Iterator[Callable[..., host.Preview]]:
    """`host.apply` on that host; after its removal nothing is left anywhere."""
    before = left(backend)

    def apply(*documents: str, drain: bool = False) -> host.Preview:
        file = tmp_path / "policies.yaml"
        file.write_text("---\n".join(documents))
        seen = estate.snapshot()
        work = partial(host.apply, [file], seen, backend=backend, now=0, drain=drain)
        return inside(path_of_name(HERE), work)

    yield apply
    inside(path_of_name(HERE), host.remove)
    assert left(backend) == before


def left(backend: str) -> dict[str, str]:
    """What each namespace holds; a bare table of legacy iptables can not be taken away."""
    spaces = [HERE, *(f"nwi-{name}" for name in NAMES)]
    commands = [["nft", "list", "ruleset"], ["ipset", "save"]]
    if backend == "legacy":
        commands = [["ipset", "save"], ["sh", "-c", "iptables-legacy-save | grep -c NW- || true"]]
    return {
        f"{space} {command[0]}": check(["ip", "netns", "exec", space, *command])
        for space in spaces
        for command in commands
    }


def link_local(name: str) -> str:
    """The address that the workload's interface made for itself."""
    deadline = time.monotonic() + 10
    while " tentative" in (said := ip("-6", "addr", "show", "scope", "link", at=f"nwi-{name}")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return said.partition("inet6 ")[2].partition("/")[0]


def call(source: str, target: str, port: int, *, family: int = 4, udp: bool = False) -> bool:
    """Whether a first packet arrives at a socket that waits for it; family 0: link-local."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    inet = socket.AF_INET if family == 4 else socket.AF_INET6
    address: tuple[str | int, ...] = ADDRESS[target][0 if family == 4 else 1], port
    if family == 0:
        index = inside(path_of_name(f"nwi-{target}"), lambda: socket.if_nametoindex("eth0"))
        address = link_local(target), port, 0, index

    def opened(name: str) -> socket.socket:
        return inside(path_of_name(f"nwi-{name}"), lambda: socket.socket(inet, kind))

    with closing(opened(target)) as waiting, closing(opened(source)) as calling:
        waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        waiting.bind(address)
        for each in (waiting, calling):
            each.settimeout(0.5)
        try:
            if udp:
                calling.sendto(b"?", address if family else _seen_from(source, address))
                return bool(waiting.recv(9))
            waiting.listen()
            calling.connect(address if family else _seen_from(source, address))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_both_directions_are_governed_and_others_are_not(
    estate: Estate, apply: Callable[..., host.Preview]
) -> None:
    """TCP, UDP, a long range, both families; an ingress and an egress isolation."""
    assert call("rogue", "api", 80)
    seen = apply(TO_API, ONLY_WEB)
    notes = " ".join(seen.ruleset.facts.notes)
    assert "shop/api is enforced inside its own namespace" in notes
    assert "shop/api has NET_ADMIN" in notes
    assert "shop/web is enforced" not in notes
    for family in (4, 6):
        got = {
            (source, target, port, udp): call(source, target, port, family=family, udp=udp)
            for source, target, port, udp in (
                ("web", "api", 80, False),
                ("web", "api", 9500, False),
                ("web", "api", 81, False),
                ("web", "api", 53, True),
                ("web", "api", 54, True),
                ("rogue", "api", 80, False),
                ("rogue", "api", 53, True),
                ("rogue", "web", 81, False),
                ("api", "web", 81, False),
                ("api", "rogue", 81, False),
            )
        }
        through = {
            ("web", "api", 80, False),
            ("web", "api", 9500, False),
            ("web", "api", 53, True),
            ("rogue", "web", 81, False),
            ("api", "web", 81, False),
            ("api", "rogue", 81, False),
        }
        assert {key for key, passed in got.items() if passed} == through, family


def test_link_local_addresses_are_their_owners(
    estate: Estate, apply: Callable[..., host.Preview]
) -> None:
    """Whoever may call by one address may by the other, and nobody else."""
    for name in NAMES:
        link_local(name)
    assert call("rogue", "api", 80, family=0)
    apply(TO_API, ONLY_WEB)
    assert call("web", "api", 80, family=0)
    assert not call("web", "api", 81, family=0)
    assert not call("rogue", "api", 80, family=0)
    assert call("rogue", "web", 80, family=0)


def test_a_quarantined_workload_talks_to_the_forensic_address_only(
    estate: Estate, apply: Callable[..., host.Preview]
) -> None:
    """By no address: not even by one that nobody knows."""
    ip("addr", "add", "198.18.9.77/24", "dev", "eth0", at="nwi-api")
    allow = (ADDRESS["rogue"][0],) if estate.driver == "macvlan" else ()
    held = replace(estate.snapshot(), quarantined=(Quarantine("shop/api", allow),))
    work = partial(host.apply, [], held, backend="nft", now=0)
    inside(path_of_name(HERE), work)
    for family in (0, 4, 6):
        assert not call("web", "api", 80, family=family), family
        assert not call("api", "web", 80, family=family), family
    assert call("rogue", "api", 80) is bool(allow)
    assert call("web", "rogue", 80)


def test_a_restart_is_a_new_namespace_that_the_next_look_fills(
    estate: Estate, apply: Callable[..., host.Preview]
) -> None:
    apply(TO_API)
    estate.stop("api")
    estate.start("api")

    def look() -> tuple[tuple[str, ...], tuple[str, ...]]:
        applied = host.applied()
        assert applied is not None
        drift = host.verify(estate.snapshot(), now=0)
        upkeep.refresh(applied, estate.snapshot(), now=0)
        return drift, host.verify(estate.snapshot(), now=0)

    before, after = inside(path_of_name(HERE), look)
    assert any(line.startswith("inside shop/api: ") for line in before)
    assert after == ()
    assert call("web", "api", 80)
    assert not call("rogue", "api", 80)
    apply(ONLY_WEB)  # api is no longer selected: its namespace is left as it was
    assert call("rogue", "api", 80) is False  # rogue's own side
    assert call("web", "api", 81)


def test_no_session_that_is_allowed_breaks_when_it_begins(
    estate: Estate, apply: Callable[..., host.Preview]
) -> None:
    """conntrack has met none of them inside; what the documents forbid ends."""
    with talking("web", "rogue") as ends:
        apply(TO_API)
        assert {name: _echoes(*pair) for name, pair in ends.items()} == {
            "web": True,
            "rogue": False,
        }


def test_what_a_tightened_policy_forbids_inside_is_listed_and_ends_unless_it_is_left(
    estate: Estate, apply: Callable[..., host.Preview]
) -> None:
    """F20, where the host's conntrack meets nothing: the namespaces' own know the session."""
    sealed = network_policy("api", "Ingress", "")
    apply(TO_API)
    with talking("web") as ends:
        named = f"{ADDRESS['web'][0]} -> {ADDRESS['api'][0]} tcp/80"
        assert named in {str(talk) for talk in apply(sealed, drain=True).forbidden}
        inside(path_of_name(HERE), partial(looked, estate))
        assert _echoes(*ends["web"])
        assert named in {str(talk) for talk in apply(sealed + "# again\n").forbidden}
        assert not _echoes(*ends["web"])
    assert not call("web", "api", 80)


def looked(estate: Estate) -> tuple[str, ...]:
    """One look of an agent."""
    applied = host.applied()
    assert applied is not None
    return upkeep.refresh(applied, estate.snapshot(), now=0)


@contextmanager
def talking(*names: str) -> Iterator[dict[str, tuple[socket.socket, socket.socket]]]:
    """A session of each with port 80 of api: both its ends."""

    def opened(name: str) -> socket.socket:
        return inside(path_of_name(f"nwi-{name}"), socket.socket)

    with ExitStack() as stack:
        server = stack.enter_context(opened("api"))
        server.bind((ADDRESS["api"][0], 80))
        server.listen()
        ends = {}
        for name in names:
            client = stack.enter_context(opened(name))
            client.settimeout(SILENCE_S)
            client.connect((ADDRESS["api"][0], 80))
            ends[name] = client, stack.enter_context(server.accept()[0])
        yield ends


def _seen_from(source: str, address: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The same, by the caller's own number of its interface."""
    index = inside(path_of_name(f"nwi-{source}"), lambda: socket.if_nametoindex("eth0"))
    return (*address[:3], index)


def _echoes(client: socket.socket, there: socket.socket) -> bool:
    there.settimeout(SILENCE_S)
    try:
        client.sendall(b"ping")
        there.sendall(there.recv(4))
        return client.recv(4) == b"ping"
    except OSError:
        return False


def test_what_is_taken_away_inside_is_found_and_mended(
    estate: Estate, apply: Callable[..., host.Preview]
) -> None:
    """A workload with NET_ADMIN can do that."""
    apply(TO_API)
    for program in ("iptables-nft", "iptables-legacy"):
        check(["ip", "netns", "exec", "nwi-api", program, "-F"])
    assert call("rogue", "api", 80)

    def look() -> tuple[str, ...]:
        applied = host.applied()
        assert applied is not None
        return upkeep.refresh(applied, estate.snapshot(), now=0)

    assert any("inside shop/api" in line for line in inside(path_of_name(HERE), look))
    assert not call("rogue", "api", 80)

"""One host that had everything netwatch can do, and after its removal nothing of it (F23).

`test_uninstall` holds each feature by itself, `test_enforce_inside` the rules in workloads' own
namespaces. Here all stand together, on a host whose firewall was in use before.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netwatch.discover.lab import find_lab
from netwatch.enforce import confirm, gate, host, kernel, quarantine, reboot
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.snapshot import Snapshot
from tests.netns.conftest import run_netwatch
from tests.netns.small_shop import API_FROM_WEB, HOST, LAB, network_policy
from tests.netns.test_uninstall import STAGED, at, differences, everything

pytestmark = pytest.mark.netns

NAMESPACE = path_of_name(HOST)
SEALED = network_policy("web", "Ingress", "ingress: []")
# Somebody else's: in tables and chains that ours jump from, and in those that they never touch.
THEIRS = """
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -s 192.0.2.99/32 -j DROP
COMMIT
*mangle
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
:THEIRS - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "ssh; from \\"home\\"" -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -m set --match-set theirs src -j THEIRS
-A DOCKER-USER -j RETURN
-A THEIRS -j DROP
COMMIT
"""
SWITCHES = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")


def write(program: str, text: str) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", HOST, program], input=text, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["nft", "legacy"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Snapshot]]:
    """A lab host with rules, sets and switches of somebody else's; backend and snapshot."""
    (tmp_path / "lab.yaml").write_text(LAB)
    assert run_netwatch("lab", "up", str(tmp_path / "lab.yaml")).code == 0
    source = find_lab(NAMESPACE)
    assert source is not None
    source.start(lambda: None)
    at(HOST, "ipset", "create", "theirs", "hash:ip")
    at(HOST, "ipset", "add", "theirs", "192.0.2.7")
    at(HOST, "ipset", "create", "theirs6", "hash:ip", "family", "inet6")
    write(f"iptables-{request.param}-restore", THEIRS)
    theirs6 = THEIRS.replace("192.0.2.99/32", "2001:db8::99").replace("set theirs", "set theirs6")
    write(f"ip6tables-{request.param}-restore", theirs6)
    at(HOST, "nft", "add", "table", "bridge", "theirs")
    for name in SWITCHES:
        at(HOST, "sysctl", "-qw", f"net.bridge.{name}=0")
    yield request.param, source.snapshot()
    for name in SWITCHES:
        at(HOST, "sysctl", "-qw", f"net.bridge.{name}=1")
    source.close()
    assert run_netwatch("lab", "down").code == 0


# The process that would have undone it is left to itself, as an agent leaves it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_all_of_it_every_list_is_as_before(
    known: tuple[str, Snapshot], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F23: enforced, staged, guarded, quarantined, unconfirmed, switched off, rebooted, shut."""
    backend, snapshot = known
    monkeypatch.setenv("NETWATCH_STATE", str(tmp_path / "state"))
    file = tmp_path / "policies.yaml"
    before = everything(backend)

    def apply(*documents: str) -> None:
        file.write_text("---\n".join(documents))
        host.apply([file], snapshot, backend=backend, now=time.time_ns())

    def live() -> None:
        apply(API_FROM_WEB, STAGED)
        held = quarantine.marked(snapshot, now=time.time_ns())
        for workload, allow in zip(snapshot.workloads, ((), ("192.0.2.9/32",)), strict=False):
            now = time.time_ns()
            quarantine.quarantine(workload, held, allow=allow, until=None, now=now)
        held = quarantine.marked(snapshot, now=time.time_ns())
        confirm.apply([file], held, backend=backend, now=time.time_ns(), seconds=5)
        confirm.confirm()

    def boot() -> None:
        """What the boot unit does, in a kernel in which nothing of ours stands any more."""
        quarantine.remove(release_all=True, for_good=False)
        assert differences(before, everything(backend)) == {}
        nobody = Snapshot(snapshot.host, problem="no runtime was asked")
        found = reboot.restore(nobody, now=time.time_ns())
        assert found.shut and gate.is_shut()
        reboot.restore(snapshot, now=time.time_ns())

    inside(NAMESPACE, live)
    stood = everything(backend)
    for part in ("ipset save", "nft list ruleset", f"iptables-{backend}-save", "files"):
        assert any(part in each for each in differences(before, stood)), part
    inside(NAMESPACE, boot)
    assert differences(before, everything(backend))
    inside(NAMESPACE, lambda: quarantine.remove(release_all=True))
    assert differences(before, everything(backend)) == {}
    assert inside(NAMESPACE, lambda: kernel.read(backend)).guard.there is False
    assert [path.name for path in (tmp_path / "state").rglob("*.json")] == []
    assert not inside(NAMESPACE, lambda: quarantine.remove(release_all=True))

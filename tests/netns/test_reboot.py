"""What comes back after a reboot, what stays away after `netwatch off`, and from which files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netwatch.agent.watchman import Watchman
from netwatch.enforce import kernel, quarantine, standing
from netwatch.kernel.connect import connect
from netwatch.kernel.namespaces import path_of_name
from netwatch.model.snapshot import Quarantine, Snapshot
from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.small_shop import API_FROM_WEB, HOST, LAB, network_policy

pytestmark = pytest.mark.netns

RUN = Path("/run/netwatch")
PROGRAM = (sys.executable, "-m", "netwatch")
# Two rounds of an agent's Watchman on the lab host.
ROUNDS = """
import time
from netwatch.agent.watchman import Watchman
from netwatch.discover.sources import find_source
from netwatch.settings import load
source = find_source(load())
source.start(lambda: None)
watchman = Watchman()
for _ in range(2):
    state, _ = watchman(source.snapshot(), time.time_ns())
print(state.problem)
"""


class Estate:
    """The small shop with a state folder of its own, which alone outlives `reboot`."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self._lab, self._policy = folder / "lab.yaml", folder / "policy.yaml"
        self._lab.write_text(LAB)
        self.start()

    def start(self) -> None:
        said = run_netwatch("lab", "up", str(self._lab))
        assert said.code == 0, said.err

    def reboot(self, *, before_runtime: bool = False) -> Said:
        """Every namespace and all of /run go; then what the boot does."""
        self.stop()
        shutil.rmtree(RUN, ignore_errors=True)
        self.start()
        more = ("--before-runtime",) if before_runtime else ()
        return self.host("host", "restore", "--json", *more)

    def stop(self) -> None:
        assert run_netwatch("lab", "down").code == 0

    def host(self, *arguments: str, **environment: str) -> Said:
        told = {"NETWATCH_STATE": str(self.state)} | environment
        return run_in("a", *PROGRAM, *arguments, **told)

    def apply(self, *more: str, text: str = API_FROM_WEB) -> None:
        self._policy.write_text(text)
        said = self.host("host", "apply", "--policies", str(self._policy), *more)
        assert said.code == 0, said.err

    def trail(self) -> list[dict[str, Any]]:
        lines = (self.state / "audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def file(self) -> Path:
        return self.state / "standing" / f"{HOST}.json"


def on_host(*command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", HOST, *command], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path)
    yield made
    made.host("host", "remove", "--release-all")
    made.stop()


NUMBERS = {"web": 10, "api": 11, "rogue": 12}


def call(source: str, target: str, port: int, *, family: int = 4, udp: bool = False) -> bool:
    """Whether the call gets through; in this process, for there are many."""
    prefix = "198.18.1." if family == 4 else "2001:db8:1::"
    address = f"{prefix}{NUMBERS[target]}"
    protocol = "udp" if udp else "tcp"
    inside = path_of_name(f"nw-{source}")
    return connect(inside, address, port, protocol=protocol, timeout_s=0.5).result == "open"


def shut_off() -> bool:
    """Whether rogue is kept from api, and web is not."""
    return not call("rogue", "api", 80) and call("web", "api", 80)


def test_documents_and_quarantine_come_back(estate: Estate) -> None:
    """F16: from the disk alone; not what waited for its confirmation, nor what was removed."""
    estate.apply()
    assert estate.host("quarantine", "rogue").code == 0
    estate.apply("--confirm", "600", text=network_policy("api", "Ingress", ""))
    back = estate.reboot()
    assert (back.code, back.json["documents"], back.json["quarantined"]) == (0, 1, ["lab/rogue"])
    assert call("web", "api", 80) and not call("web", "rogue", 80)
    assert estate.host("host", "verify").code == 0
    assert estate.host("release", "rogue").code == 0
    assert shut_off()
    assert estate.host("host", "remove").code == 0
    assert not estate.file.exists()


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_before_anybody_knows_the_workloads_nothing_passes(estate: Estate, backend: str) -> None:
    """No identity is inherited by an address; an agent's look opens what it then guards."""
    estate.apply("--backend", backend)
    back = estate.reboot(before_runtime=True)
    assert back.code == 0 and len(back.json["shut"]) == 1
    assert not call("web", "api", 80) and not call("rogue", "web", 80, family=6)
    assert not call("web", "api", 53, udp=True)
    assert estate.host("host", "restore").code == 0
    assert shut_off()
    # whom nobody answered while the gate was shut, the kernel asks for once a second
    assert any(call("rogue", "web", 80, family=6) for _ in range(8))
    assert "NW-GATE" not in on_host(f"iptables-{backend}-save")
    assert "mangle" not in on_host("nft", "list", "tables")


def test_off_takes_all_policies_away_until_on(estate: Estate) -> None:
    """Not an apply, not a reboot gives them force meanwhile; quarantine stays."""
    estate.apply()
    assert estate.host("quarantine", "web").code == 0
    said = estate.host("off", "--json")
    assert said.code == 0, said.err
    assert (said.json["quarantined"], said.json["warnings"]) == (["shop/web"], [])
    assert call("rogue", "api", 80) and not call("rogue", "web", 80)
    refused = estate.host("host", "apply", "--policies", str(estate._policy), "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "off")
    back = estate.reboot()
    assert (back.json["documents"], back.json["quarantined"]) == (0, ["shop/web"])
    assert not call("rogue", "web", 80)
    assert estate.host("off", "--release-all").code == 0
    assert call("rogue", "web", 80)
    assert "NW-" not in on_host("iptables-nft-save")
    assert estate.host("on", "--json").json["documents"] == 1
    assert shut_off() and call("rogue", "web", 80)
    # What was refused is not in it.
    done = ["host.apply", "quarantine", "host.off", "host.off", "host.on"]
    assert [line["action"] for line in estate.trail()] == done


def test_what_is_done_to_a_host_by_hand_is_in_its_audit_trail(estate: Estate) -> None:
    """Who did it and what changed, in one unbroken chain; also what nobody confirmed."""
    estate.apply()
    estate.apply("--confirm", "60", text=network_policy("web", "Ingress", ""))
    assert estate.host("host", "confirm").code == 0
    estate.apply("--confirm", "1")
    deadline = time.monotonic() + 15
    while estate.trail()[-1]["action"] != "host.rollback":
        assert time.monotonic() < deadline, "nothing is rolled back"
        time.sleep(0.1)
    assert estate.host("quarantine", "rogue", "--allow", "192.0.2.7").code == 0
    assert estate.host("release", "rogue").code == 0
    assert estate.host("host", "remove").code == 0
    applied, tried, kept, again, undone, cut, freed, gone = estate.trail()
    assert [each["action"] for each in (applied, tried, again)] == ["host.apply"] * 3
    assert [each["action"] for each in (kept, undone, gone)] == [
        "host.confirm",
        "host.rollback",
        "host.remove",
    ]
    assert applied["details"]["enforced"] and applied["details"]["confirm_seconds"] is None
    assert tried["details"]["confirm_seconds"] == 60
    assert (cut["action"], cut["subject"]) == ("quarantine", "lab/rogue")
    assert cut["details"]["allow"] == "192.0.2.7"
    assert (freed["action"], freed["subject"]) == ("release", "lab/rogue")
    assert {each["actor"]["uid"] for each in estate.trail()} == {0}
    assert estate.host("audit", "verify").code == 0


def test_what_can_not_be_written_down_is_done_all_the_same(estate: Estate) -> None:
    """An emergency does not wait for a disk; what is missing in the trail is said."""
    (estate.state / "audit.jsonl").mkdir(parents=True)
    said = estate.host("quarantine", "rogue", "--json")
    assert said.code == 0
    assert "not in the audit trail" in " ".join(said.json["warnings"])
    assert not call("web", "rogue", 80)


def test_off_needs_neither_state_folder_nor_runtime(estate: Estate) -> None:
    """Folder and lists broken, workloads unknown: policies go, quarantine stays in the kernel."""
    estate.apply()
    assert estate.host("quarantine", "web").code == 0
    shutil.rmtree(estate.state)
    estate.state.write_text("no folder")
    for name in ("quarantine.*.json", "enforce.*/state.json", "enforce.*/before.json"):
        for file in RUN.glob(name):
            file.write_bytes(b"{")
    os.rename("/run/netwatch/lab/a.json", "/run/netwatch/lab/a.away")
    try:
        said = estate.host("off", "--json", NETWATCH_DOCKER_SOCKET="/nowhere")
    finally:
        os.rename("/run/netwatch/lab/a.away", "/run/netwatch/lab/a.json")
    assert said.code == 0, said.err
    assert said.json["warnings"]
    assert call("rogue", "api", 80) and not call("rogue", "web", 80)
    assert estate.host("off", "--release-all").code == 0
    assert call("rogue", "web", 80)
    assert "NW-" not in on_host("iptables-nft-save") and not on_host("ipset", "list", "-n")


def test_damaged_documents_in_run_are_healed_or_leave_the_rules_as_they_are(
    estate: Estate,
) -> None:
    """F6: fewer documents than were applied are no wish to enforce less."""
    estate.apply()
    (kept,) = RUN.glob("enforce.*/policies/0000.yaml")
    for copy, problem in ((True, "None"), (False, "are not those that were applied")):
        kept.write_bytes(b"")
        if not copy:
            shutil.rmtree(estate.file.parent)
        told = run_in(
            "a",
            sys.executable,
            "-c",
            ROUNDS,
            NETWATCH_STATE=str(estate.state),
        )
        assert (told.code, problem in told.out) == (0, True), told
        assert bool(kept.read_bytes()) == copy
        assert shut_off()


def test_an_agent_without_the_boot_unit_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the network namespace of the first process only: no other comes back with a boot."""
    monkeypatch.setenv("NETWATCH_STATE", str(tmp_path))
    now, nobody = time.time_ns(), Snapshot("this")
    assert standing.is_host()
    assert standing.keep(quarantined=(Quarantine("shop/web"),)) is None
    try:
        assert Watchman()(replace(nobody, problem="no answer"), now)[0].quarantined == ()
        assert Watchman()(nobody, now)[0].quarantined == ("shop/web",)
        assert ":NW-Q-DROP" in kernel.saved("nft", 4) + kernel.saved("legacy", 4)
    finally:
        quarantine.remove(release_all=True)
    assert not list((tmp_path / "standing").iterdir())

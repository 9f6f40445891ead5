"""Our units under a real systemd: rules before the runtime, readiness, and the watchdog (F16)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from private_systemd import Machine, reason_not

from netwatch.enforce.standing import Standing

pytestmark = pytest.mark.docker

DEPLOY = Path(__file__).parents[2] / "deploy"
POLICY = """apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {mode: enforce, governs: {app: db}, ingress: isolated}
"""
TRIAL = """[Unit]
Wants=sysinit.target netwatch-boot.service netwatch-agent.service docker.service
After=sysinit.target
"""
# What a runtime finds when it starts, and so what its first container would.
DOCKER = """[Service]
Type=exec
ExecStart=/bin/sh -c 'iptables-nft-save -t mangle >/run/test/at-docker; exec sleep 1000'
"""
# Nobody answers there: the agent has to be ready all the same, and to keep what it found.
AGENT = f"""NETWATCH_CONTROLLER=https://127.0.0.1:8742
NETWATCH_CONTROLLER_PIN={"ab" * 32}
NETWATCH_AGENT_TOKEN=none
NETWATCH_HOST=alpha
NETWATCH_DOCKER_SOCKET=/run/docker.sock
"""
TOLD = """[Service]
StandardOutput=append:/run/test/{unit}
StandardError=append:/run/test/{unit}
"""
WATCHDOG_S = 3  # 30 in the unit


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Booted from a disk on which a policy stood, with one network that was closed."""
    if reason := reason_not():
        pytest.skip(reason)
    kept = msgspec.json.encode(Standing("nft", 1, ((".yaml", POLICY),), (), ("br-back",)))
    units = {"trial.target": TRIAL, "docker.service": DOCKER}
    for name in ("netwatch-boot.service", "netwatch-agent.service"):
        units[name] = (DEPLOY / name).read_text()
        units[f"{name}.d/trial.conf"] = TOLD.format(unit=name)
    units["netwatch-agent.service.d/watchdog.conf"] = f"[Service]\nWatchdogSec={WATCHDOG_S}\n"
    standing = hashlib.sha256(kept).hexdigest().encode() + kept
    files = {"etc/netwatch/agent.env": AGENT.encode()}
    files["var/lib/netwatch/standing/host.json"] = standing
    folder = Path("/run/netwatch-systemd")
    booted = Machine(folder, units, files)
    yield booted
    booted.close()
    for family in ("iptables", "ip6tables"):  # of the network, which is the test's
        subprocess.run([f"{family}-nft", "-t", "mangle", "-F"], check=True)
        subprocess.run([f"{family}-nft", "-t", "mangle", "-X"], check=True)
    shutil.rmtree(folder)


def gate() -> bool:
    """Whether nothing passes the network that was closed."""
    rules = subprocess.run(["iptables-nft-save", "-t", "mangle"], capture_output=True, text=True)
    return "-A NW-GATE-IN -i br-back -j DROP" in rules.stdout


def test_rules_come_before_the_runtime_and_the_agent_is_watched(machine: Machine) -> None:
    """F16: boot, start, hang, restart and stop, by the units as they are shipped.

    Before the runtime starts what was closed is shut; the agent counts as started when it says so;
    one that hangs is killed and started again, and one that stops leaves the rules as they are.
    """
    seen = machine.root / "run/test/at-docker"
    machine.wait(seen.exists, "docker starts")
    machine.wait(lambda: "COMMIT" in seen.read_text(), "docker looks at the rules")
    assert "-A NW-GATE-IN -i br-back -j DROP" in seen.read_text()
    assert "-A PREROUTING -j NW-GATE-IN" in seen.read_text()
    assert machine.tells("netwatch-boot", "Result") == "success"
    machine.wait(lambda: machine.tells("netwatch-agent", "SubState") == "running", "it is ready")
    assert machine.tells("netwatch-agent", "NRestarts") == "0"

    hung = machine.tells("netwatch-agent", "MainPID")
    assert machine.inside("kill", "-STOP", hung).returncode == 0
    machine.wait(lambda: machine.tells("netwatch-agent", "NRestarts") == "1", "it is replaced")
    machine.wait(lambda: machine.tells("netwatch-agent", "SubState") == "running", "and ready")
    assert machine.tells("netwatch-agent", "MainPID") != hung
    assert gate()

    assert machine.control("stop", "netwatch-agent").returncode == 0
    assert machine.tells("netwatch-agent", "Result") == "success"
    assert gate()

"""The systemd units: valid, and closed to what the services do not need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(
        shutil.which("systemd-analyze") is None,
        reason="systemd-analyze is not installed: apt-get install systemd",
    ),
]
DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRAM = "/opt/netwatch/bin/netwatch"


def unit(name: str, folder: Path) -> Path:
    """A copy whose program exists on this machine."""
    text = (DEPLOY / name).read_text()
    assert PROGRAM in text
    copy = folder / name
    copy.write_text(text.replace(PROGRAM, "/bin/true"))
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", sorted(unit.name for unit in DEPLOY.glob("*.service")))
def test_systemd_accepts_every_line(name: str, tmp_path: Path) -> None:
    """No unknown setting, no wrong value: systemd itself says nothing at all."""
    done = analyze("verify", "--man=no", unit(name, tmp_path))
    about_us = [line for line in done.stderr.splitlines() if "netwatch" in line]
    assert (done.returncode, about_us) == (0, [])


@pytest.mark.parametrize(
    ("name", "most"),
    [
        pytest.param("netwatch-agent.service", 40, id="agent"),
        pytest.param("netwatch-boot.service", 40, id="boot"),
        pytest.param("netwatch-controller.service", 15, id="controller"),
    ],
)
def test_exposure_is_low(name: str, most: int, tmp_path: Path) -> None:
    """systemd's own estimate, in tenths: 100 is a service without any protection."""
    done = analyze("security", "--offline=yes", f"--threshold={most}", unit(name, tmp_path))
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_boot_comes_before_every_container() -> None:
    """Whatever starts containers, by a socket too, waits for the rules; the agent comes after."""
    text = (DEPLOY / "netwatch-boot.service").read_text()
    before = {
        word
        for line in text.splitlines()
        if line.startswith("Before=")
        for word in line[7:].split()
    }
    assert {"docker.socket", "docker.service", "podman.socket", "netwatch-agent.service"} <= before
    assert "DefaultDependencies=no" in text and "WantedBy=sysinit.target" in text

"""Runs a systemd of the tests' own as the first process of its own namespaces, over this root.

Its root is an overlay of the machine's, so nothing it writes stays; of the machine's units it has
targets and slices only, so no service starts that a test did not give. The network is the test's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
PYTHON = Path("/usr/bin/python3")  # the interpreter of .venv may be in a home that units can't see
UNABLE = 77
PROGRAM = f"""#!/bin/sh
PYTHONPATH=/opt/netwatch/source:/opt/netwatch/site exec {PYTHON} -m netwatch "$@"
"""
# $1: a folder on a tmpfs; $2, $3: source and packages of netwatch; exits with UNABLE where this
# kernel does not let it. cgroups: a named hierarchy of version 1, or else version 2.
BOOT = f"""
set -e
trap 'test $? = 0 || exit {UNABLE}' EXIT
N=$1/root
mkdir -p $1/upper $1/work $1/units $N
mount -t overlay overlay -o lowerdir=/,upperdir=$1/upper,workdir=$1/work $N
mount -t proc proc $N/proc
mount --rbind /dev $N/dev
mount -t sysfs sysfs $N/sys
for place in run tmp etc/systemd etc/netwatch var/lib opt sys/fs/cgroup; do
    mkdir -p $N/$place && mount -t tmpfs tmpfs $N/$place
done
mkdir $N/sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd systemd $N/sys/fs/cgroup/systemd ||
    mount -t cgroup2 cgroup2 $N/sys/fs/cgroup
cp -a /lib/systemd/system/*.target /lib/systemd/system/*.slice $1/units/
cp -r $1/given/units/* $1/units/
mount --bind $1/units $N/lib/systemd/system
mkdir -p $N/run/test $N/opt/netwatch/bin $N/opt/netwatch/source $N/opt/netwatch/site
cp $1/given/netwatch $N/opt/netwatch/bin/
mount --bind $2 $N/opt/netwatch/source
mount --bind $3 $N/opt/netwatch/site
(cd $1/given/root && tar c .) | tar x -C $N
trap - EXIT
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin unshare --root=$N \\
    {SYSTEMD} --system --unit=trial.target --log-target=console --show-status=0
"""


def reason_not() -> str | None:
    """Why this machine can not have a second systemd, as far as that is known before."""
    if not SYSTEMD.exists():
        return "systemd is not installed: apt-get install systemd"
    asked = [PYTHON, "-c", "import sys; print(*sys.version_info[:2])"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    if found != [str(number) for number in sys.version_info[:2]]:
        return f"{PYTHON} is not the version of the packages in .venv"
    return None


class Machine:
    """A booted systemd; `root` is its file system as seen from here."""

    def __init__(self, folder: Path, units: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        """`units` by path below /lib/systemd/system, `files` by path below its root."""
        shutil.rmtree(folder, ignore_errors=True)
        for place, texts in (("units", units), ("root", files)):
            (folder / "given" / place).mkdir(parents=True)
            for name, text in texts.items():
                file = folder / "given" / place / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(text.encode() if isinstance(text, str) else text)
        program = folder / "given/netwatch"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        site = Path(sys.prefix) / f"lib/python3.{sys.version_info[1]}/site-packages"
        own = ("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--fork", "--kill-child")
        told = [str(each) for each in (folder, REPOSITORY, site)]
        self.console = folder / "console"
        with self.console.open("wb") as console:
            self.process = subprocess.Popen(
                ["unshare", *own, "sh", "-c", BOOT, "boot", *told],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self.first = 0
        self.wait(self._booted, "it boots")
        self.root = Path(f"/proc/{self.first}/root")

    def _booted(self) -> bool:
        if self.process.poll() is not None:
            said = self.console.read_text()[-500:]
            if self.process.returncode == UNABLE:
                pytest.skip(f"no second systemd here: {said}")
            pytest.fail(f"systemd ended: {said}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.first = int((children.read_text().split() or ["0"])[0])
        return bool(self.first) and self.control("is-system-running").stdout.strip() in (
            *("running", "degraded", "starting"),
        )

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in all of its namespaces but the network's, which is ours too."""
        spaces = ("--mount", "--pid", "--cgroup", "--ipc", "--uts")
        enter = ["nsenter", "-t", str(self.first), *spaces, f"--root=/proc/{self.first}/root"]
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, timeout=30, check=False
        )

    def control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.inside("systemctl", *arguments)

    def tells(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.control("show", unit, "-p", name, "--value").stdout.strip()

    def wait(self, fact: Callable[[], object], what: str, *, within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while not fact():
            if time.monotonic() > deadline:
                pytest.fail(
                    f"not within {within_s:g} s: {what}\n{self.console.read_text()[-2000:]}"
                )
            time.sleep(0.1)

    def close(self) -> None:
        """Everything in it ends with its first process."""
        self.process.kill()
        self.process.wait(20)

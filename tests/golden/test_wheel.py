"""The wheel is the tree: it holds every file that ships, no other, and runs away from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from netwatch import __version__

ROOT = Path(__file__).parents[2]
PACKAGES = {"netwatch": "netwatch", "policies": "netwatch/policies", "web": "netwatch/web"}
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def say(*command: str | Path, cwd: Path) -> str:
    """What a command prints, without this checkout on its path; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Installed:
    """A wheel, and a virtual environment that holds nothing of ours but that wheel."""

    wheel: Path
    folder: Path

    def run(self, program: str, *arguments: str | Path) -> str:
        return say(self.folder / "bin" / program, *arguments, cwd=self.folder)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy, so that no stale build/ takes part, and nothing comes from a network."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=LEFT_OUT)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    say(*build, out, cwd=copy)
    (wheel,) = out.glob("*.whl")
    folder = tmp_path_factory.mktemp("venv")
    say(sys.executable, "-m", "venv", "--without-pip", folder, cwd=out)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    say(*pip, "install", "-q", "--no-deps", "--no-index", "--no-compile", wheel, cwd=out)
    (packages,) = folder.glob("lib/python*/site-packages")
    # What the wheel needs comes from here; files that name checkouts are not followed from there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(wheel, folder)


def shipped() -> set[str]:
    """Every file of the three folders, by its name in the wheel."""
    found = set()
    for name, package in PACKAGES.items():
        for file in (ROOT / name).rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                found.add(f"{package}/{file.relative_to(ROOT / name)}")
    return found


def test_the_wheel_holds_what_the_tree_holds_and_no_more(installed: Installed) -> None:
    names = {
        name
        for name in zipfile.ZipFile(installed.wheel).namelist()
        if not name.startswith(f"netwatch-{__version__}.dist-info/")
    }
    assert names == shipped()
    assert {"netwatch/capture/flow.bpf.o", "netwatch/lab/shop.yaml"} <= names


def test_the_installed_program_is_the_wheels(installed: Installed) -> None:
    """Not the checkout's: the module that answers lies in the new environment."""
    assert __version__ in installed.run("netwatch", "--version")
    where = installed.run("python", "-c", "import netwatch; print(netwatch.__file__)")
    assert Path(where).is_relative_to(installed.folder)


@pytest.mark.parametrize("name", ["policies", "web"])
def test_resources_are_found_in_the_wheel(installed: Installed, name: str) -> None:
    program = f"from netwatch.resources import resource; print(resource({name!r}))"
    found = Path(installed.run("python", "-c", program).strip())
    assert found.resolve().is_relative_to(installed.folder)
    assert sum(1 for file in found.rglob("*") if file.is_file()) == sum(
        1 for file in shipped() if file.startswith(f"netwatch/{name}/")
    )


def test_the_shipped_policies_pass_their_own_check(installed: Installed) -> None:
    program = "from netwatch.resources import resource; print(resource('policies'))"
    policies = installed.run("python", "-c", program).strip()
    installed.run("netwatch", "policy", "check", policies)

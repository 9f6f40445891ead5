"""Labs for every test that needs one. They run under `tests/apart`, and nowhere else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.netns.bridges import Net, build, remove
from tests.netns.running import Up

ERROR_KEYS = {"code", "message", "hint", "file", "line", "column"}
SHOP = Path(__file__).parents[2] / "netwatch" / "lab" / "shop.yaml"
# What a namespace has from birth: loopback, and fallback devices of loaded tunnel modules.
BORN_WITH = {"lo", "tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip6tnl0", "ip_vti0", "ip6gre0"}

# What the longest files take, so that parts end together; a number that is wrong costs only time.
OTHERS_S = 7
SECONDS = {
    "test_spine": 116,
    "test_enforce": 72,
    "test_reboot": 55,
    "test_conditions": 52,
    "test_enforce_agreement": 53,
    "test_lab_life": 51,
    "test_policy_versions": 50,
    "test_probe": 46,
    "test_faults": 46,
    "test_storage_faults": 43,
    "test_quarantine": 42,
    "test_enforce_inside": 39,
    "test_enforce_truth_tables": 33,
    "test_trouble": 33,
    "test_lab": 30,
    "test_denials": 26,
    "test_uninstall": 24,
    "test_faults_apply": 23,
    "test_enforce_updates": 20,
    "test_enforce_writers": 20,
    "test_draining": 18,
    "test_bad_input": 18,
    "test_enforce_docker29": 16,
    "test_faults_v6": 14,
    "test_faults_fleet": 13,
    "test_capture_file": 13,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--part 1/6`: six runs, each apart from the others, share the files between them."""
    parser.addoption("--part", default="1/1", help="Which part of the files: NUMBER/PARTS.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the files of its part: the longest first, each file goes where least is yet."""
    number, parts = map(int, config.getoption("part", default="1/1").split("/"))
    lasts = {path: SECONDS.get(path.stem, OTHERS_S) for path in {item.path for item in items}}
    shares: list[tuple[int, list[Path]]] = [(0, []) for _ in range(parts)]
    for path in sorted(lasts, key=lambda path: (-lasts[path], path)):
        least = min(shares, key=lambda share: share[0])
        shares[shares.index(least)] = (least[0] + lasts[path], [*least[1], path])
    mine = shares[number - 1][1]
    items[:] = [item for item in items if item.path in mine]


def _reason_not_apart() -> str | None:
    if os.geteuid() != 0:
        return "it needs root"
    links = {name for _, name in socket.if_nameindex()} - BORN_WITH
    if links:
        return f"this network namespace is in use: it has {', '.join(sorted(links))}"
    return None


@pytest.fixture(scope="session", autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """These tests change the network they run in, so it must be their own; and so their state."""
    reason = _reason_not_apart()
    if reason:
        pytest.fail(f"{reason}; run: tests/apart .venv/bin/pytest tests/netns", pytrace=False)
    os.environ.setdefault("NETWATCH_STATE", str(tmp_path_factory.mktemp("state")))


@dataclass(frozen=True)
class Said:
    """What the program answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_netwatch(
    *arguments: str, deadline_s: float = 60.0, through: Sequence[str] = (), **environment: str
) -> Said:
    """Run the program to its end, from outside: as a user does, `through` another if need be."""
    program = [*through, sys.executable, "-m", "netwatch", *arguments]
    return _ran(program, environment, deadline_s)


def run_in(place: str, *command: str, deadline_s: float = 60.0, **environment: str) -> Said:
    """What `netwatch lab exec` does, without a second start of Python: `place` is a host or a
    workload of the lab."""
    spaces = (Path(f"/run/netns/{kind}-{place}") for kind in ("nwh", "nw"))
    space = next(path for path in spaces if path.exists())
    return _ran(["nsenter", f"--net={space}", *command], environment, deadline_s)


def _ran(command: Sequence[str], environment: Mapping[str, str], deadline_s: float) -> Said:
    done = subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def assert_one_sentence(said: Said, code: int, *words: str) -> None:
    """One line of ours on stderr with these words, no trace, and that exit code."""
    assert said.code == code, said
    (line,) = said.err.splitlines()
    assert line.startswith("netwatch: "), said.err
    missing = [word for word in words if word not in line]
    assert not missing, (missing, line)


def assert_one_error(said: Said, code: int, *words: str) -> None:
    """The same as one JSON object on stdout, with a code, and the remedy in `hint`."""
    assert_one_sentence(said, code, *words)
    answer = json.loads(said.out)
    assert answer["ok"] is False
    assert set(answer["error"]) == ERROR_KEYS
    assert answer["error"]["message"] and answer["error"]["hint"]


@pytest.fixture(scope="session")
def netwatch() -> Callable[..., Said]:
    """`netwatch("lab", "connect", "web", "db", "5432")`."""
    return run_netwatch


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[str | Path], Said]]:
    """Bring a lab up from a file or a text; it goes down after the test, whatever happened."""

    def up(source: str | Path) -> Said:
        if isinstance(source, str):
            file = tmp_path / "lab.yaml"
            file.write_text(source)
        else:
            file = source
        said = run_netwatch("lab", "up", str(file), "--json")
        assert said.code == 0, said.err
        return said

    yield up
    down = run_netwatch("lab", "down")
    assert down.code == 0, down.err


@pytest.fixture(scope="module")
def shop() -> Iterator[Said]:
    """The demo estate, once for all tests of a module that do not change it."""
    said = run_netwatch("lab", "up", str(SHOP), "--json")
    assert said.code == 0, said.err
    yield said
    down = run_netwatch("lab", "down")
    assert down.code == 0, down.err


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """Two bridges, three workloads and an uplink, once for all tests of a module."""
    remove()
    try:
        yield build()
    finally:
        remove()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start `netwatch up` with more arguments and, by keyword, a changed environment."""
    running: list[Up] = []

    def start(*arguments: str, **environment: str) -> Up:
        folder = tmp_path / f"state{len(running)}"
        running.append(Up(folder, *arguments, **environment))
        return running[-1]

    yield start
    for one in running:
        one.close()

"""An apply that is killed, doubled or refused leaves the host with rules that somebody wanted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netwatch.discover.lab import find_lab
from netwatch.enforce import host, kernel, upkeep
from netwatch.enforce.alarm import LOST, Alarm
from netwatch.kernel.connect import connect
from netwatch.kernel.namespaces import enter, inside, path_of_name
from netwatch.model.snapshot import Snapshot
from tests.netns.conftest import Said, run_in, run_netwatch
from tests.netns.small_shop import API_FROM_WEB, FROM_WEB, HOST, LAB, network_policy

pytestmark = pytest.mark.netns

NAMESPACE = path_of_name(HOST)
API = "198.18.1.11"
MORE = network_policy("web", "Ingress", "ingress: []")
OTHER = network_policy("api", "Ingress", f"ingress: [{{from: [{FROM_WEB}]}}]")


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB)
    assert run_netwatch("lab", "up", str(file)).code == 0
    source = find_lab(NAMESPACE)
    assert source is not None
    source.start(lambda: None)
    yield source.snapshot()
    source.close()
    assert run_netwatch("lab", "down").code == 0


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest, estate: Snapshot) -> Iterator[str]:
    yield str(request.param)
    inside(NAMESPACE, host.remove)


def reaches(source: str) -> bool:
    """Whether a workload's call to api, port 80, gets through."""
    return connect(path_of_name(f"nw-{source}"), API, 80, timeout_s=0.3).result == "open"


def test_killed_at_any_moment_the_rules_are_of_one_side_and_the_next_apply_converges(
    estate: Snapshot, backend: str, tmp_path: Path, seed: int = 5
) -> None:
    """F1: 25 kills for each backend; what both forbid stays forbidden, what both allow allowed."""
    sides = (tmp_path / "one.yaml", tmp_path / "other.yaml")
    sides[0].write_text(API_FROM_WEB)
    sides[1].write_text(OTHER + "---" + MORE)
    draw = random.Random(seed)

    def apply(file: Path) -> None:
        host.apply([file], estate, backend=backend, now=time.time_ns())

    began = time.monotonic()
    inside(NAMESPACE, lambda: apply(sides[0]))
    inside(NAMESPACE, lambda: apply(sides[1]))
    took_s = (time.monotonic() - began) / 2
    for turn in range(25):
        child = os.fork()
        if not child:
            try:
                os.setsid()
                enter(NAMESPACE)
                apply(sides[turn % 2])
            finally:
                os._exit(0)
        time.sleep(draw.uniform(0, took_s))  # the moment is what is tried
        os.killpg(child, signal.SIGKILL) if _leads(child) else os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert reaches("web") and not reaches("rogue"), f"turn {turn}, seed {seed}"
    began = time.monotonic()
    inside(NAMESPACE, lambda: apply(sides[0]))
    assert time.monotonic() - began < 5
    assert inside(NAMESPACE, lambda: host.verify(estate, now=time.time_ns())) == ()
    assert reaches("web") and not reaches("rogue")


def _leads(child: int) -> bool:
    try:
        return os.getpgid(child) == child
    except ProcessLookupError:
        return False


def on_host(*arguments: str, through: tuple[str, ...] = ()) -> Said:
    program = (*through, sys.executable, "-m", "netwatch")
    return run_in("a", *program, *arguments)


def test_rules_in_the_other_backend_are_refused(
    estate: Snapshot, backend: str, tmp_path: Path
) -> None:
    """F15: half of ours in one and half in the other would drop unseen."""
    file = tmp_path / "policy.yaml"
    file.write_text(API_FROM_WEB)
    inside(NAMESPACE, lambda: host.apply([file], estate, backend=backend, now=time.time_ns()))
    other = "legacy" if backend == "nft" else "nft"
    said = on_host("host", "apply", "--policies", str(file), "--backend", other, "--json")
    assert said.code == 1
    assert f"iptables-{backend}" in said.json["error"]["message"]
    assert inside(NAMESPACE, lambda: host.verify(estate, now=time.time_ns())) == ()


@pytest.mark.parametrize("backend", ["nft"], indirect=True)
def test_a_second_writer_of_ours_is_refused_and_changes_nothing(
    estate: Snapshot, backend: str, tmp_path: Path
) -> None:
    """F24: whoever comes second is told, at once."""
    file = tmp_path / "policy.yaml"
    file.write_text(API_FROM_WEB)

    def while_locked() -> Said:
        with kernel.lock():
            return on_host("host", "apply", "--policies", str(file), "--json")

    said = inside(NAMESPACE, while_locked)
    assert (said.code, said.json["error"]["code"]) == (1, "busy")
    assert inside(NAMESPACE, host.applied) is None


@pytest.mark.parametrize("backend", ["nft"], indirect=True)
def test_who_looks_with_what_was_true_before_writes_nothing(
    estate: Snapshot, backend: str, tmp_path: Path
) -> None:
    """An agent that waited for the lock while an operator changed the documents."""
    file = tmp_path / "policy.yaml"
    file.write_text(API_FROM_WEB)
    inside(NAMESPACE, lambda: host.apply([file], estate, backend=backend, now=time.time_ns()))
    before = inside(NAMESPACE, host.applied)
    assert before is not None
    file.write_text(OTHER)
    inside(NAMESPACE, lambda: host.apply([file], estate, backend=backend, now=time.time_ns()))

    def stale() -> object:
        return upkeep.look(before, estate, now=time.time_ns(), last=None, still=lambda: False)

    with pytest.raises(kernel.Busy):
        inside(NAMESPACE, stale)
    assert inside(NAMESPACE, lambda: host.verify(estate, now=time.time_ns())) == ()


HANGS = "#!/bin/sh\nexec sleep 60\n"
FAILS = "#!/bin/sh\necho 'iptables-restore: kernel says no' >&2; exit 4\n"


@pytest.mark.parametrize("backend", ["nft"], indirect=True)
@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param(HANGS, "did not end within", id="hangs"),
        pytest.param(FAILS, "kernel says no", id="exit code 4"),
    ],
)
def test_a_program_that_does_not_do_its_work_changes_nothing(
    estate: Snapshot, backend: str, tmp_path: Path, script: str, says: str
) -> None:
    """F14: it is ended at a deadline, the rules from before stay, the sentence names it."""
    file = tmp_path / "policy.yaml"
    file.write_text(API_FROM_WEB)
    inside(NAMESPACE, lambda: host.apply([file], estate, backend=backend, now=time.time_ns()))
    broken = tmp_path / "iptables-nft-restore"
    broken.write_text(script)
    broken.chmod(0o755)
    file.write_text(OTHER + "---" + MORE)
    path = f"PATH={tmp_path}:{os.environ['PATH']}"
    began = time.monotonic()
    said = on_host("host", "apply", "--policies", str(file), "--json", through=("env", path))
    assert time.monotonic() - began < 30
    assert said.code == 1
    assert says in said.json["error"]["message"], said.out
    assert reaches("web") and not reaches("rogue")
    assert inside(NAMESPACE, lambda: host.verify(estate, now=time.time_ns())) == ()


def test_lost_events_are_a_reason_to_look(wait: Callable[[Callable[[], bool]], None]) -> None:
    """F9: more changes than the kernel keeps for us; the alarm goes on hearing afterwards."""
    woken: list[float] = []
    alarm = Alarm(lambda: woken.append(time.monotonic()), room=1)
    try:
        flood = "".join(f"add table ip flood{n}\ndelete table ip flood{n}\n" for n in range(20))
        for _ in range(5):
            subprocess.run(["nft", "-f", "-"], input=flood, text=True, check=True)
        heard: set[str] = set()
        wait(lambda: bool(heard.update(alarm.heard()) or heard))
        time.sleep(0.2)  # the rest of the flood
        heard.update(alarm.heard())
        subprocess.run(["nft", "add table ip last; delete table ip last"], check=True)
        wait(lambda: "nft" in alarm.heard())
        assert woken
        assert LOST in heard
    finally:
        alarm.close()


@pytest.fixture
def wait() -> Callable[[Callable[[], bool]], None]:
    def until(fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not fact():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return until

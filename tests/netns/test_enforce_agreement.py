"""The kernels of two hosts and `decide` agree: random documents, real connects, both families."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from netwatch.enforce.ends import world_of
from netwatch.policy.evaluate import Judge
from netwatch.policy.files import read_policies
from tests.netns import agreement
from tests.netns.conftest import run_netwatch

pytestmark = pytest.mark.netns

# Larger in `make proof`, which draws a hundred thousand calls.
SIZE = int(os.environ.get("NETWATCH_PROOF_WORKLOADS", "12"))
SAMPLE = int(os.environ.get("NETWATCH_PROOF_CALLS", "500"))
SEEDS = [int(text) for text in os.environ.get("NETWATCH_PROOF_SEEDS", "11,12").split(",")]


@pytest.fixture(params=agreement.UNDERLAYS, scope="module")
def underlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed{seed}", scope="module")
def seed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, underlay: str
) -> Iterator[int]:
    """A lab made from a seed, for both backends; it goes down afterwards."""
    file = tmp_path_factory.mktemp("estate") / "lab.json"
    file.write_text(agreement.lab_text(random.Random(request.param), SIZE, underlay))
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    yield request.param
    assert run_netwatch("lab", "down").code == 0


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest, seed: int) -> Iterator[str]:
    """What the rules are written with; they are taken away afterwards."""
    yield str(request.param)
    for host in agreement.HOSTS:
        said = agreement.at(host, "remove")
        assert said.code == 0, said.err


def test_kernel_and_decide_agree(seed: int, underlay: str, backend: str, tmp_path: Path) -> None:
    """Every sampled call is open exactly if `decide` allows it; the two errors are told apart."""
    draw = random.Random(f"{seed} {underlay} {backend}")
    estates = agreement.snapshots()
    addresses = [a for each in estates for w in each.workloads for a in w.addresses]
    blocks = [f"{a}/29" for a in addresses if ":" not in a] if underlay == "routed" else []
    made = agreement.documents(draw, blocks)
    file = tmp_path / "policies.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
    for host in agreement.HOSTS:
        said = agreement.at(host, "apply", "--backend", backend, "--policies", str(file))
        assert said.code == 0, said.err
    judge = Judge(read_policies([file]), world_of(estates[0]))
    calls = list(agreement.possible(estates, agreement.QUESTIONS))
    found = agreement.tried(draw.sample(calls, min(SAMPLE, len(calls))), estates, judge)
    print(f"seed {seed} {underlay} {backend}: {found}")
    assert (found.false_allow, found.false_deny) == ((), ()), json.dumps(made)

"""The exported nft script, loaded without netwatch, lets through what `decide` allows."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from netwatch.enforce.ends import world_of
from netwatch.policy.evaluate import Judge
from netwatch.policy.files import read_policies
from tests.netns import agreement
from tests.netns.conftest import run_in

pytestmark = pytest.mark.netns

CALLS = 300


def _on(host: str, *command: str) -> None:
    said = run_in(host, *command)
    assert said.code == 0, said.err


def test_a_script_alone_agrees_with_decide(lab, tmp_path: Path) -> None:
    """Documents of every kind, two hosts, both families; loading it twice is loading it once."""
    draw = random.Random("script")
    lab(agreement.lab_text(draw, 8, "routed"))
    estates = agreement.snapshots()
    addresses = [a for each in estates for w in each.workloads for a in w.addresses]
    blocks = [f"{a}/29" for a in addresses if ":" not in a]
    makers = (agreement._network_policy, agreement._segment, agreement._tier) * 2
    made = [make(draw, number, blocks) for number, make in enumerate(makers)]
    policies, script = tmp_path / "policies.json", tmp_path / "netwatch.nft"
    policies.write_text(json.dumps(made))
    for host in agreement.HOSTS:
        netwatch = (sys.executable, "-m", "netwatch", "policy", "export")
        _on(host, *netwatch, "--format", "nft", str(policies), "-o", str(script))
        for _ in range(2):
            _on(host, "nft", "-f", str(script))
    judge = Judge(read_policies([policies]), world_of(estates[0]))
    calls = list(agreement.possible(estates, agreement.QUESTIONS))
    outcome = agreement.tried(draw.sample(calls, CALLS), estates, judge)
    print(outcome)
    assert outcome.denied and outcome.denied < CALLS
    assert (outcome.false_allow, outcome.false_deny) == ((), ()), str(outcome)

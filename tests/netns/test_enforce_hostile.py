"""Hostile names of workloads, namespaces, labels and networks are in no rule and no set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from netwatch.enforce import host
from netwatch.kernel.commands import check, run
from netwatch.kernel.namespaces import inside, path_of_name
from netwatch.model.snapshot import Network, Snapshot
from netwatch.model.workload import Label, Workload

pytestmark = pytest.mark.netns

HERE = "nwt-hostile"
DATA = Path(__file__).parents[2] / "../shared/data/hostile_inputs.json"
# ports become members, the rule without ports becomes a rule from set to set
POLICY = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: servers, namespace: default}
spec:
  governs: role=server
  scope: all
  mode: MODE
  rules:
    - {from: {role: client}, ports: 80, because: pages}
    - {from: {role: friend}, because: friends}
"""
HASHES = re.compile(r"nw-(s-)?b-[0-9a-f]{12}|nw:[0-9a-f]{10}")


@pytest.fixture(autouse=True)
def place() -> Iterator[None]:
    run(["ip", "netns", "del", HERE])
    check(["ip", "netns", "add", HERE])
    yield
    inside(path_of_name(HERE), host.remove)
    check(["ip", "netns", "del", HERE])


def estate(words: list[str]) -> Snapshot:
    """A workload for each word, which is its name, project, service, image, labels and network."""
    workloads = tuple(
        Workload(
            "a",
            word or "x",
            f"{word}-{n}",
            "docker",
            labels=(
                Label("role", ("server", "client", "friend")[n % 3], "own"),
                Label(word, word, "own"),
                Label(f"key{n}", word, "image"),
            ),
            image=word,
            addresses=(f"198.18.7.{n + 10}", f"2001:db8:7::{n + 10:x}"),
            networks=(words[0],),
        )
        for n, word in enumerate(words)
    )
    network = Network(words[0], "bridge", "br7", ("198.18.7.0/24", "2001:db8:7::/64"))
    return Snapshot("a", workloads, (network,))


def kernel(backend: str) -> list[str]:
    """Rules, sets and the bridges' table; hashes by the order in which they come."""
    commands = (
        [f"iptables-{backend}-save", "-t", "filter"],
        [f"ip6tables-{backend}-save", "-t", "filter"],
        ["ipset", "save", "-s"],
        ["sh", "-c", "nft list table bridge netwatch || true"],  # only where something closes
    )
    text = "\n".join(check(["ip", "netns", "exec", HERE, *command]) for command in commands)
    seen: dict[str, str] = {}
    text = HASHES.sub(lambda m: seen.setdefault(m[0], f"{m[0][:4]}#{len(seen)}"), text)
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return sorted(re.sub(r"\[\d+:\d+\]|handle \d+|initval \S+", "", line) for line in lines)


@pytest.mark.parametrize("mode", ["enforce", "stage"])
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_rules_are_those_of_a_harmless_twin(tmp_path: Path, backend: str, mode: str) -> None:
    """The same estate twice, once with 56 hostile words for everything that can be named."""
    if not DATA.exists():
        pytest.skip(f"there is no {DATA}")
    words = [str(each["value"]) for each in json.loads(DATA.read_text())]
    assert len(words) > 50
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("MODE", mode))
    found = []
    for names in (words, [f"harmless-{n:03}" for n in range(len(words))]):
        snapshot = replace(estate(names), host="a")
        apply = partial(host.apply, [file], snapshot, backend=backend, now=0)
        seen = inside(path_of_name(HERE), apply)
        assert seen.ruleset.facts.documents or seen.ruleset.facts.staged
        found.append(kernel(backend))
        inside(path_of_name(HERE), host.remove)
    hostile, harmless = found
    assert hostile == harmless
    assert any("198.18.7.10" in line for line in hostile)

"""Hostile names in a real dockerd: the rules of a harmless twin, and no line shown is theirs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import pytest
from docker.errors import APIError
from private_dockerd import Engine
from program import Netwatch

pytestmark = pytest.mark.docker

DATA = Path(__file__).parents[2] / "../shared/data/hostile_inputs.json"
ROLES = ("server", "client", "friend", "stranger")
POLICY = """\
apiVersion: netwatch/v1
kind: Segment
metadata: {name: servers, namespace: default}
spec:
  governs: role=server
  scope: all
  mode: enforce
  rules:
    - {from: {role: client}, ports: 80, because: pages}
    - {from: {role: friend}, because: friends}
"""
HASHES = re.compile(r"nw-(s-)?b-[0-9a-f]{12}|nw:[0-9a-f]{10}")
MINE = re.compile(r"veth[0-9a-f]{7}|br-[0-9a-f]{12}|([0-9a-f]{2}:){5}[0-9a-f]{2}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def words() -> list[str]:
    if not DATA.exists():
        pytest.skip(f"there is no {DATA}")
    return [str(each["value"]) for each in json.loads(DATA.read_text())]


def estate(engine: Engine, names: list[str]) -> list[str]:
    """One container for each role, under the first of its words that Docker takes for a name; all
    of them are its labels, project and service. Returns what names were taken."""
    pool = {"Subnet": "198.18.210.0/24"}
    engine.client.create_network("back", driver="bridge", ipam={"Config": [pool]})
    shares: dict[str, list[str]] = {role: [] for role in ROLES}
    for role, word in zip(cycle(ROLES), names):
        shares[role].append(word)
    taken = []
    for number, (role, mine) in enumerate(shares.items()):
        labels = {f"own.{n}": word for n, word in enumerate(mine)}
        labels |= {word: word for word in mine if word}
        labels |= {"com.docker.compose.project": mine[0], "com.docker.compose.service": mine[1]}
        labels["role"] = role
        address = engine.client.create_endpoint_config(ipv4_address=f"198.18.210.{number + 10}")
        for word in (*mine, f"plain-{number}"):
            try:
                made = engine.client.create_container(
                    "box",
                    ["sleep", "1000"],
                    name=word or None,
                    labels=labels,
                    stop_signal="SIGKILL",
                    networking_config=engine.client.create_networking_config({"back": address}),
                    host_config=engine.client.create_host_config(network_mode="back"),
                )
            except APIError:  # no name for Docker
                continue
            engine.client.start(made["Id"])
            taken.append(word)
            break
    return taken


def shown(netwatch: Netwatch, verb: str) -> list[str]:
    """What a person sees on a terminal, line by line."""
    command = [sys.executable, "-m", "netwatch", verb]
    done = subprocess.run(
        command, env=netwatch.environment, capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode().removesuffix("\n").split("\n")


def kernel() -> list[str]:
    """Rules, sets and the bridges' table, without what dockerd draws by lot."""
    commands = (
        ["iptables-nft-save", "-t", "filter"],
        ["ip6tables-nft-save", "-t", "filter"],
        ["ipset", "save", "-s"],
        ["nft", "list", "table", "bridge", "netwatch"],
    )
    done = (subprocess.run(c, capture_output=True, text=True, check=True) for c in commands)
    text = "\n".join(each.stdout for each in done)
    seen: dict[str, str] = {}
    text = HASHES.sub(lambda m: seen.setdefault(m[0], f"{m[0][:4]}#{len(seen)}"), text)
    text = re.sub(r"fe80::[0-9a-f:]+", "LINK-LOCAL", MINE.sub("MINE", text))
    text = re.sub(r"\[\d+:\d+\]|handle \d+|initval \S+|packets \d+ bytes \d+", "", text)
    return sorted(" ".join(line.split()) for line in text.splitlines() if line[:1] != "#")


def test_rules_are_those_of_a_harmless_twin_and_no_line_is_forged(
    engine: Engine, netwatch: Netwatch
) -> None:
    """Every hostile word is name, label, project or service of a container of a real dockerd."""
    file = netwatch.folder / "policy.yaml"
    file.write_text(POLICY)
    hostile = words()
    found = []
    for names in (hostile, [f"harmless-{n:03}" for n in range(len(hostile))]):
        estate(engine, names)
        netwatch.ok("host", "apply", "--policies", str(file))
        found.append(kernel())
        if names is hostile:
            netwatch.up()
            listed = netwatch.ok("workloads")["workloads"]
            told = {value for each in listed for value in each["labels"].values()}
            assert len(told & {*names}) >= len(names) - 8, "else nobody knows them"
            lines = shown(netwatch, "workloads")
            assert len(lines) == 1 + len(ROLES)
            assert not any(CONTROL.search(line) for line in lines)
            netwatch.close()
            netwatch.process = None
        engine.clean()
    assert found[0] == found[1]
    assert any("198.18.210.10" in line for line in found[0])
    log = (netwatch.folder / "up.log").read_text()
    assert not CONTROL.search(log.replace("\n", ""))
    assert not any(word in log for word in hostile if len(word) > 3)

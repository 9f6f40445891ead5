"""A stranger reads the README and types what stands there: five commands, the promised output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.conftest import SHOP
from tests.netns.running import Up

pytestmark = pytest.mark.netns

README = Path(__file__).parents[2] / "README.md"
HEADING = "### From traffic to a staged policy in five commands"
MOST = 5


def _documented() -> list[tuple[str, str]]:
    """Each command of the section with its output."""
    section = README.read_text().partition(HEADING)[2]
    block = section.partition("```console\n")[2].partition("```")[0]
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def _steady(output: str) -> str:
    """Without times, ids, days and counts; ports stay, and so does every other word."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", output)
    text = re.sub(r"\b(replay |version \d+ \()[0-9a-f]+", r"\1ID", text)
    text = re.sub(r"\b(\w+day, )*\w+day\b", "DAYS", text)
    text = re.sub(r"\b(?!443\b|5433\b)\d+(\.\d+)?\b", "N", text)
    return re.sub(r" +", " ", text)


def test_the_documented_commands_stage_a_policy_for_one_project(lab, tmp_path: Path) -> None:
    """Nothing is denied afterwards; what the rogue does would be."""
    commands = _documented()
    assert 0 < len(commands) <= MOST
    lab(SHOP)
    up = Up(tmp_path / "state")
    try:
        up.ready()
        up.wait(lambda: len(_answered(up)) == 3, "the project was not seen", deadline_s=40)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        given = {"NETWATCH_URL": up.url, "NETWATCH_TOKEN": up.token, "PATH": path}
        for command, promised in commands:
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=tmp_path,
                env=os.environ | given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            assert _steady(done.stdout) == _steady(promised), command
            assert done.returncode == (3 if " replay " in command else 0)
        denied = {"a/lab/rogue>a/pay/pay-db:tcp/5433"}
        up.wait(
            lambda: {e["id"] for e in _answered(up) if e["staged"] == "deny"} == denied,
            "the staged policy judges nobody",
        )
        assert {edge["verdict"] for edge in _answered(up)} == {"allow"}
    finally:
        up.close()


def _answered(up: Up) -> list[dict[str, object]]:
    edges = up.get("edges?namespace=pay")["edges"]
    return [edge for edge in edges if {"established", "reset"} & {*edge["states"]}]

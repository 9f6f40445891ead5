"""The truth tables that others publish, as `netwatch policy matrix` prints them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from tests.unit.policy.test_truth_tables import CASES, TIER_CASES, documents_text, world_text


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_matrix_command_prints_the_published_truth_table(
    case: dict[str, Any], tmp_path: Path
) -> None:
    """What `netwatch policy matrix --json` prints equals the table, diagonal apart."""
    for step in case["steps"]:
        spot, tables = _printed(step, tmp_path)
        for probe in step["probes"]:
            table = tables[_name(probe)]
            for source, row in zip(probe["order"], probe["matrix"], strict=True):
                for destination, wanted in zip(probe["order"], row, strict=True):
                    if source == destination and probe["ignore_loopback"]:
                        continue
                    assert table[spot[source]][spot[destination]] == wanted


@pytest.mark.parametrize("case", TIER_CASES, ids=[case["id"] for case in TIER_CASES])
def test_the_matrix_command_gives_the_published_answers_of_the_tiers(
    case: dict[str, Any], tmp_path: Path
) -> None:
    """What `netwatch policy matrix --json` prints holds every probe of the case."""
    spot, tables = _printed(case, tmp_path)
    for probe in case["probes"]:
        cell = tables[_name(probe)][spot[probe["src"]]][spot[probe["dst"]]]
        assert cell == "01"[probe["allowed"]]


def _printed(case: dict[str, Any], folder: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """The place of each workload, and the rows for each probe, as the command tells them."""
    world, documents = folder / "world.json", folder / "documents.json"
    world.write_text(world_text(case["topology"]))
    documents.write_text(documents_text(case))
    names = list(dict.fromkeys(map(_name, case["probes"])))
    asked = [word for name in names for word in ("--probe", name)]
    arguments = ["matrix", "--world", str(world), "--policies", str(documents), *asked]
    result = CliRunner().invoke(command, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.output)
    tables = {table["probe"]: table["rows"] for table in answer["probes"]}
    assert (answer["ok"], list(tables)) == (True, names)
    return {key: index for index, key in enumerate(answer["order"])}, tables


def _name(probe: dict[str, Any]) -> str:
    return f"{probe['protocol'].lower()}/{probe['port']}"

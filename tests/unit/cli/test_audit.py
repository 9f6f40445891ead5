"""`netwatch audit` shows the trail; `verify` ends with 3 where it is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netwatch.audit import FILE, Actor, append
from netwatch.cli.audit import audit
from netwatch.model.errors import Violations


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with three lines, the second of a hostile workload."""
    monkeypatch.setenv("NETWATCH_STATE", str(tmp_path))
    for subject in ("a/shop/web", "a/shop/\x1b[2Jevil\nroot", "a/shop/api"):
        append(
            tmp_path,
            "capture.ended",
            subject=subject,
            actor=Actor(0, None, "ada"),
            details={"packets": 7, "filter": None},
            now=0,
        )
    return tmp_path / FILE


def run(*arguments: str) -> Result:
    return CliRunner().invoke(audit, arguments)


def test_lines_are_shown_oldest_first_and_harmless(trail: Path) -> None:
    """One line each, whatever a workload is called."""
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["LINE", "1", "2", "3"]
    assert "\\x1b[2Jevil root" in lines[2]
    assert lines[1].split() == (
        [
            "1",
            "1970-01-01T00:00:00.000000Z",
            "0",
            "ada",
            "capture.ended",
            "a/shop/web",
            "packets=7",
        ]
    )


def test_json_has_every_line_and_a_limit_takes_the_last(trail: Path) -> None:
    told = json.loads(run("--json", "--limit", "2").stdout)
    assert (told["ok"], told["next"], told["losses"]) == (True, None, {})
    assert [entry["number"] for entry in told["entries"]] == [2, 3]
    assert told["entries"][1]["details"] == {"packets": 7, "filter": None}


def test_a_whole_trail_verifies_with_a_head_that_was_noted(trail: Path) -> None:
    told = json.loads(run("verify", "--json").stdout)
    assert (told["ok"], told["entries"], told["broken"]) == (True, 3, None)
    assert run("verify", "--head", told["head"]).exit_code == 0
    assert isinstance(run("verify", "--head", "0" * 64).exception, Violations)
    assert run("verify", "--head", "abc").exit_code == 2


def test_a_broken_trail_names_the_line(trail: Path) -> None:
    trail.write_text(trail.read_text().replace('"packets":7', '"packets":8', 1))
    said = run("verify", "--json")
    assert said.exit_code == 3
    told = json.loads(said.stdout)
    assert (told["ok"], told["entries"], told["broken"]["line"]) == (False, 0, 1)
    broken = run("verify").exception
    assert isinstance(broken, Violations)
    assert "line 1" in str(broken)


def test_no_trail_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETWATCH_STATE", str(tmp_path))
    assert run().stdout == "nothing was audited yet\n"
    assert json.loads(run("--json").stdout)["entries"] == []
    assert run("verify").exit_code == 0

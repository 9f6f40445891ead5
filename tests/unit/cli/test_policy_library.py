"""`netwatch policy library` and `use`: what is shown, and that what is printed can be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netwatch.cli.policy import policy as command
from netwatch.model.errors import UsageError

LIBRARY = Path(__file__).parents[3] / "policies" / "library"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_the_list_has_one_row_for_each_file() -> None:
    """The same names for people and for programs."""
    names = sorted(file.stem for file in LIBRARY.glob("*.yaml"))
    lines = run("library").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    answer = json.loads(run("library", "--json").stdout)
    assert answer["ok"] and [row["name"] for row in answer["policies"]] == names
    assert all(row["why"] and row["fix"] and row["standards"] for row in answer["policies"])


def test_one_policy_is_explained() -> None:
    """Why, how to fix, standards, parameters, and the command that turns it on."""
    told = run("library", "dns-only-via-resolver").stdout
    for word in ("What ", "Why ", "Fix ", "Standards ", "NIST SP 800-53", "--set priority"):
        assert f"\n{word}" in told or word in told
    assert told.endswith(
        "netwatch policy use dns-only-via-resolver --scope all --set resolver=…\n"
    )
    assert max(map(len, told.splitlines())) <= 96
    shown = json.loads(run("library", "dns-only-via-resolver", "--json").stdout)["policy"]
    assert {p["name"]: p["default"] for p in shown["parameters"]} == {
        "resolver": None,
        "priority": "300",
    }


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        pytest.param(("env-isolation", "--scope", "all"), "stage", id="staged-by-default"),
        pytest.param(
            ("dns-only-via-resolver", "--scope", "shop", "--set", "resolver=192.0.2.53/32"),
            "stage",
            id="with-a-value",
        ),
        pytest.param(
            ("admin-ports-restricted", "--scope", "all/env=prod", "--mode", "enforce"),
            "enforce",
            id="enforced",
        ),
    ],
)
def test_what_use_writes_is_what_check_takes(
    arguments: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    """To stdout and to a file the same; each document in the mode that was asked for."""
    file = tmp_path / "mine.yaml"
    printed = run("use", *arguments)
    assert printed.exit_code == 0 and printed.stderr == ""
    assert run("use", *arguments, "-o", str(file)).stdout == ""
    assert file.read_text() == printed.stdout
    checked = run("check", str(file), "--json")
    answer = json.loads(checked.stdout)
    assert (checked.exit_code, answer["findings"], answer["warnings"]) == (0, [], [])
    assert {document["mode"] for document in answer["documents"]} == {mode}


def test_use_tells_a_program_the_text() -> None:
    answer = json.loads(run("use", "jobs-serve-nobody", "--scope", "all", "--json").stdout)
    assert answer["text"] == run("use", "jobs-serve-nobody", "--scope", "all").stdout
    assert (answer["ok"], answer["documents"], answer["findings"]) == (True, 1, [])


def test_values_that_check_would_find_fault_with_end_with_3() -> None:
    """They are printed all the same, and the remark is on stderr."""
    found = run("use", "cross-host-must-encrypt", "--scope", "shop/a=b, a!=b")
    assert found.exit_code == 3 and "kind: Segment" in found.stdout
    assert "no workload can have the labels" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("library", "env-isolatoin"), "no policy 'env-isolatoin'", "did you mean env-isolation?"),
        (("use", "undocumented-port", "--scope", "all"), "no policy", None),
        (("use", "docker-api-deny", "--scope", "all", "--set", "ports"), "sets nothing", None),
        (("use", "docker-api-deny", "--scope", "/"), "the scope is '/'", None),
    ],
)
def test_wrong_usage_is_said(arguments: tuple[str, ...], message: str, hint: str | None) -> None:
    error = run(*arguments).exception
    assert isinstance(error, UsageError) and message in error.message
    assert hint in (None, error.hint)

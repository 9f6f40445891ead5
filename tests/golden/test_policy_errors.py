"""Hand-made mistakes in policies, each beside the message that a person reads.

`policy_errors/NAME.yaml` is the document (`compose-` begins Compose files), `NAME.txt` what is
said about it, and what a program is told to write instead. A changed message is a changed file
here, read before it is kept; REGEN=1 writes them anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from netwatch.cli.policy_compose import read_deployment
from netwatch.model.errors import InvalidDocument
from netwatch.policy.document import parse
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.mending import applied
from tests.unit.policy.worlds import shared

FOLDER = Path(__file__).parent / "policy_errors"
DOCUMENTS = sorted(FOLDER.glob("*.yaml"))
POLICIES = [file for file in DOCUMENTS if not file.name.startswith("compose-")]
SEGMENT = (
    "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {{name: db}}\nspec:\n"
    "  governs: {governs}\n  rules:\n  - from: {from}\n    ports: {ports}\n"
)


def told(problems: Sequence[InvalidDocument]) -> str:
    """The message of each, and below it what to write instead."""
    lines = []
    for problem in problems:
        right = problem.replacement
        assert right is not None, f"{problem} proposes nothing"
        span = f"{right.line}:{right.column}-{right.end_line}:{right.end_column}"
        lines.append(f"{problem}\n    {span} {json.dumps(right.text, ensure_ascii=False)}\n")
    return "".join(lines)


def mistakes(document: Path) -> Sequence[InvalidDocument]:
    """Every problem of a document that has some."""
    with pytest.raises(InvalidPolicies) as caught, contextlib.chdir(document.parent):
        if is_compose(document):
            read_deployment([Path(document.name)])
        else:
            parse(document.read_text(), document.name)
    return caught.value.problems


def is_compose(document: Path) -> bool:
    return document.name.startswith("compose-")


def corrected(text: str, problems: Sequence[InvalidDocument]) -> str:
    """The document with every replacement put in, the last first, so that places stay right."""
    rights = [problem.replacement for problem in problems if problem.replacement]
    for right in sorted(rights, key=lambda r: r[:2], reverse=True):
        text = applied(text, right)
    return text


@pytest.mark.parametrize("document", DOCUMENTS, ids=[file.stem for file in DOCUMENTS])
def test_a_mistake_is_named_with_its_place(document: Path) -> None:
    """File, line and column, what is wrong, and what would be right; on one line each."""
    problems = mistakes(document)
    said = told(problems)
    golden = document.with_suffix(".txt")
    if os.environ.get("REGEN"):
        golden.write_text(said)
    assert said == golden.read_text()
    for problem in problems:
        line = str(problem)
        assert re.match(rf"{re.escape(document.name)}:[1-9][0-9]*:[1-9][0-9]*: \S", line)
        assert line.isprintable() and problem.hint


@pytest.mark.parametrize("document", DOCUMENTS, ids=[file.stem for file in DOCUMENTS])
def test_what_is_proposed_passes_check(document: Path, tmp_path: Path) -> None:
    """With the replacements put in, `policy check` finds no error; it may doubt a rule."""
    text = document.read_text()
    file = tmp_path / document.name
    file.write_text(corrected(text, mistakes(document)))
    option = ["--compose"] if is_compose(document) else []
    result = CliRunner().invoke(command, ["check", *option, str(file)])
    assert result.exit_code in (0, 3), result.output


@pytest.mark.parametrize("document", DOCUMENTS, ids=[file.stem for file in DOCUMENTS])
def test_the_hint_says_what_the_replacement_does(document: Path) -> None:
    """A reader can write what a program would put in, or leave something out."""
    text = document.read_text()
    for problem in mistakes(document):
        assert problem.replacement is not None and problem.hint is not None
        words = re.findall(r"[A-Za-z0-9.]+", problem.replacement.text)
        said = f"{problem.message} {problem.hint} {text}"
        if words:
            assert all(word in said or "..." in said for word in words), problem
        else:
            assert re.search(r"leave|indent|\{\}|\[\]|quote", problem.hint), problem


HOSTILE = [case for case in shared("hostile_inputs.json") if case["cat"] == "input"]


@pytest.mark.parametrize("field", ["whole", "governs", "from", "ports"])
@pytest.mark.parametrize("case", HOSTILE, ids=[case["name"] for case in HOSTILE])
def test_hostile_input_is_refused_with_what_would_be_right(
    case: dict[str, str], field: str, tmp_path: Path
) -> None:
    """As a file, and as the value of a field: the replacement alone makes `check` content."""
    parts = {"governs": "{app: db}", "from": "host", "ports": "443"}
    parts[field] = case["value"].replace("[*100000]", "[" * 1000)
    file = tmp_path / "hostile.yaml"
    file.write_text(parts["whole"] if field == "whole" else SEGMENT.format_map(parts))
    if case["name"] == "port range reversed" and field in ("governs", "from"):
        assert parse(file.read_text(), file.name)  # there it is a label called port
        return
    problems = mistakes(file)
    assert all(problem.line and problem.column and problem.hint for problem in problems)
    file.write_text(corrected(file.read_text(), problems))
    result = CliRunner().invoke(command, ["check", str(file)])
    assert result.exit_code in (0, 3), result.output


def test_check_tells_every_mistake_of_every_file_and_ends_with_1() -> None:
    """One run over the folder names each of its files; nothing is loaded by half."""
    result = CliRunner().invoke(command, ["check", "--json", *map(str, POLICIES[:10])])
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    for document in POLICIES[:10]:
        assert document.name in result.output
    assert {"line", "column", "end_line", "end_column", "text"} == set(
        answer["errors"][0]["replacement"]
    )
    assert "documents" not in answer


def test_there_are_at_least_fifty_mistakes() -> None:
    """A glob that finds nothing would make the tables above pass."""
    assert len(DOCUMENTS) >= 150

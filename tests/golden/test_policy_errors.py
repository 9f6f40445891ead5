"""Hand-made mistakes in policies, each beside the message that a person reads.

`policy_errors/NAME.yaml` is the document, `NAME.txt` what is said about it. A changed message is
a changed file here, read before it is kept.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from netwatch.cli.policy import policy as command
from netwatch.policy.document import parse
from netwatch.policy.fields import InvalidPolicies

FOLDER = Path(__file__).parent / "policy_errors"
DOCUMENTS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=[file.stem for file in DOCUMENTS])
def test_a_mistake_is_named_with_its_place(document: Path) -> None:
    """File, line and column, what is wrong, and what would be right; on one line each."""
    with pytest.raises(InvalidPolicies) as caught:
        parse(document.read_text(), document.name)
    said = "".join(f"{problem}\n" for problem in caught.value.problems)
    assert said == document.with_suffix(".txt").read_text()
    for line in said.splitlines():
        assert re.match(rf"{re.escape(document.name)}:[1-9][0-9]*:[1-9][0-9]*: \S", line)
        assert line.isprintable()


def test_check_tells_every_mistake_of_every_file_and_ends_with_1() -> None:
    """One run over the folder names each of its files; nothing is loaded by half."""
    result = CliRunner().invoke(command, ["check", "--json", *map(str, DOCUMENTS[:10])])
    assert result.exit_code == 1
    for document in DOCUMENTS[:10]:
        assert document.name in result.output


def test_there_are_at_least_fifty_mistakes() -> None:
    """A glob that finds nothing would make the table above pass."""
    assert len(DOCUMENTS) >= 50

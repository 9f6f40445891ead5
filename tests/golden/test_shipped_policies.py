"""Every file of `policies/` is what an editor and `netwatch policy fmt` would leave as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.policy.document import API_VERSIONS
from netwatch.policy.formatting import formatted
from tests.unit.policy.test_schema import VALIDATOR, data, documents

FILES = sorted((Path(__file__).parents[2] / "policies").rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_formatting_loses_nothing_and_settles(file: Path) -> None:
    text = file.read_text()
    laid = formatted(text, str(file))
    assert laid == text or formatted(laid, str(file)) == laid
    assert laid.count("#") == text.count("#")


def test_the_schema_takes_every_one() -> None:
    """`policies/` holds nothing that an editor would underline."""
    assert FILES
    for file in FILES:
        for node in documents(file.read_text()):
            if data(node).get("kind") in API_VERSIONS:
                assert VALIDATOR.is_valid(data(node)), file

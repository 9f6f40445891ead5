"""Which files are read, and that nothing is loaded by half."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.model.errors import InvalidDocument
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.files import read_policies

GOOD = "apiVersion: netwatch/v1\nkind: Segment\nmetadata: {name: %s}\nspec: {governs: all}\n"


def test_a_folder_is_read_to_its_depth_and_each_file_once(tmp_path: Path) -> None:
    """YAML and JSON, in the order of names; other files are none of its business."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "b.yaml").write_text(GOOD % "b")
    (tmp_path / "deep" / "a.yml").write_text(GOOD % "a")
    (tmp_path / "deep" / "er" / "c.json").write_text("[]")
    (tmp_path / "README.md").write_text("no policy")
    policies = read_policies([tmp_path, tmp_path / "b.yaml"])
    assert [policy.name for policy in policies] == ["b", "a"]


def test_one_bad_file_among_good_ones_loads_nothing_and_names_every_mistake(
    tmp_path: Path,
) -> None:
    """The mistakes of two files are told together."""
    (tmp_path / "a.yaml").write_text(GOOD % "a")
    (tmp_path / "b.yaml").write_text(GOOD.replace("governs", "governes") % "b")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPolicies) as caught:
        read_policies([tmp_path])
    assert [Path(str(problem.file)).name for problem in caught.value.problems] == [
        "b.yaml",
        "c.yaml",
    ]


def test_the_same_document_in_two_files_is_a_mistake(tmp_path: Path) -> None:
    """Which of the two would hold can not be known."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD % "same")
    with pytest.raises(InvalidPolicies, match="stands twice"):
        read_policies([tmp_path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message says what to look at."""
    with pytest.raises(InvalidDocument, match="can not be read: no such file"):
        read_policies([tmp_path / "nowhere.yaml"])

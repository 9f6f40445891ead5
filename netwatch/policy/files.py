"""Finds and reads policy files: the one place of this package that touches a disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netwatch.model.errors import InvalidDocument
from netwatch.policy.document import check_together, parse
from netwatch.policy.fields import Problems
from netwatch.policy.ir import Policy
from netwatch.policy.nodes import MAX_CHARACTERS

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILES = 10_000


def read_policies(paths: Sequence[Path]) -> tuple[Policy, ...]:
    """Every policy in these files and, recursively, in the policy files of these folders.

    A file that is reached twice is read once. Raises InvalidDocument (InvalidPolicies where a
    document is at fault) and loads nothing then.
    """
    problems = Problems()
    policies: list[Policy] = []
    for file in policy_files(paths):
        with problems.collected():
            policies.extend(parse(read_text(file), str(file)))
    problems.raise_any()
    check_together(policies)
    return tuple(policies)


def policy_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files that `paths` stand for, in order and each once."""
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        else:
            inside = [path]
        for file in inside:
            found.setdefault(file.resolve(), file)
        if len(found) > MAX_FILES:
            raise InvalidDocument(
                f"there are more than {MAX_FILES} policy files", "name fewer folders"
            )
    return tuple(found.values())


def read_text(file: Path) -> str:
    """The text of a file of UTF-8, of a size that a document may have."""
    try:
        with file.open("rb") as stream:
            data = stream.read(4 * MAX_CHARACTERS + 1)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidDocument(
            "the file is not UTF-8", "save it as UTF-8", file=str(file), line=line
        ) from None
    except OSError as error:
        reason = (error.strerror or "it can not be read").lower()
        raise InvalidDocument(
            f"the file can not be read: {reason}", "check the path", file=str(file)
        ) from None

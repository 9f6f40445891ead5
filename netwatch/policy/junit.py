"""JUnit's XML, which every CI shows: one case for each thing that was checked."""

from __future__ import annotations

import xml.etree.ElementTree as xml
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """`failure` None: it passed. `file` and `line` say where it is written."""

    name: str
    file: str
    line: int
    failure: str | None = None
    kind: str = "policy"


def junit(suite: str, cases: Sequence[Case]) -> str:
    """The report as XML text; characters that XML can not hold become `?`."""
    failed = sum(case.failure is not None for case in cases)
    count, failures = str(len(cases)), str(failed)
    root = xml.Element("testsuites", tests=count, failures=failures, errors="0")
    inner = xml.SubElement(
        root, "testsuite", name=_clean(suite), tests=count, failures=failures, errors="0"
    )
    for case in cases:
        element = xml.SubElement(
            inner,
            "testcase",
            classname=_clean(case.file),
            name=_clean(case.name),
            file=_clean(case.file),
            line=str(case.line),
        )
        if case.failure is not None:
            first = case.failure.split("\n", 1)[0]
            failure = xml.SubElement(element, "failure", message=_clean(first), type=case.kind)
            failure.text = _clean(case.failure)
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, "unicode") + "\n"


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)

"""SARIF 2.1.0 (OASIS): what `policy check` found, for the code review of a CI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netwatch.model.errors import InvalidDocument
from netwatch.policy.ir import Place
from netwatch.policy.lint import Remark

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(
    version: str, remarks: Sequence[Remark], mistakes: Sequence[InvalidDocument] = ()
) -> dict[str, Any]:
    """The log of one run: mistakes and findings are errors, warnings are warnings."""
    results = [
        _result(
            "invalid-document",
            "error",
            f"{m.message} ({m.hint})" if m.hint else m.message,
            Place(m.file or "", m.line or 1, m.column or 1),
        )
        for m in mistakes
    ]
    results += [
        _result(
            remark.code,
            "error" if remark.severity == "finding" else "warning",
            f"{remark.message} ({remark.hint})",
            remark.place,
        )
        for remark in remarks
    ]
    rules = [{"id": name} for name in sorted({result["ruleId"] for result in results})]
    driver = {"name": "netwatch", "version": version, "rules": rules}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _result(code: str, level: str, text: str, place: Place) -> dict[str, Any]:
    region = {"startLine": place.line, "startColumn": place.column}
    location = {"artifactLocation": {"uri": place.file}, "region": region}
    return {
        "ruleId": code,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
    }

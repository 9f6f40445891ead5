"""Documents, rules and decisions as the JSON and the words of `netwatch policy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netwatch.model.errors import NetwatchError
from netwatch.policy.answers import place_json, rule_json
from netwatch.policy.ir import Decision, Policy


def governs(document: Policy) -> str:
    """Whom it governs, as the terms of its selector."""
    terms = []
    for requirement in document.subject.requirements:
        values = ", ".join(sorted(requirement.values))
        terms.append(f"{requirement.key} {requirement.operator} ({values})")
    return ", ".join(terms) or "all"


def isolated(document: Policy) -> str:
    """The directions that it isolates, or a dash."""
    pairs = (("ingress", document.isolates_ingress), ("egress", document.isolates_egress))
    return " ".join(word for word, isolates in pairs if isolates) or "-"


def document_json(document: Policy) -> dict[str, Any]:
    """One document, without its rules."""
    return {
        "kind": document.kind,
        "namespace": document.namespace,
        "name": document.name,
        "mode": str(document.mode),
        "governs": governs(document),
        "isolates_ingress": document.isolates_ingress,
        "isolates_egress": document.isolates_egress,
        "rules": len(document.ingress) + len(document.egress),
        **place_json(document.place),
    }


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision with its document and rule."""
    return {
        "verdict": decision.verdict,
        "reason": decision.reason,
        "side": decision.side,
        "isolated": decision.isolated,
        "obligations": list(decision.obligations),
        "policy": document_json(decision.policy) if decision.policy else None,
        "rule": rule_json(decision.rule) if decision.rule else None,
    }


def write_report(file: Path, text: str) -> None:
    """A report for another program; raises NetwatchError."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NetwatchError(
            f"{file} can not be written: {error.strerror}", "name a folder that exists"
        ) from None

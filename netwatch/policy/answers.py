"""Rules, decisions, reasons and replays as the JSON that the API and `netwatch policy` share."""

from __future__ import annotations

from typing import Any

from netwatch.model.times import rfc3339
from netwatch.policy.explain import Explanation
from netwatch.policy.ir import Decision, Party, Place, Policy, Rule
from netwatch.policy.replay import CHANGED, Replay, Row

ROWS_LIMIT = 5_000  # calls of one replay that are told one by one; its counts are of all


def place_json(place: Place | None) -> dict[str, Any]:
    """file, line and column; all null where there is none."""
    if place is None:
        return {"file": None, "line": None, "column": None}
    return {"file": place.file, "line": place.line, "column": place.column}


def rule_json(rule: Rule) -> dict[str, Any]:
    """One rule with its place."""
    return {
        "name": rule.name,
        "action": str(rule.action),
        "exception": rule.exception,
        "because": rule.because,
        "owner": rule.owner,
        "ticket": rule.ticket,
        "expires": rfc3339(rule.expires),
        "require": rule.obligation,
        **place_json(rule.place),
    }


def governs(document: Policy) -> str:
    """Whom it governs, as the terms of its selector."""
    terms = []
    for requirement in document.subject.requirements:
        values = ", ".join(sorted(requirement.values))
        terms.append(f"{requirement.key} {requirement.operator} ({values})")
    return ", ".join(terms) or "all"


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


def explanation_json(found: Explanation) -> dict[str, Any]:
    """A decision, each step to it, and for a denial what would allow the call."""
    fix = found.fix
    return {
        **decision_json(found.decision),
        "steps": [
            {
                "side": step.side,
                "outcome": step.outcome,
                "text": step.text,
                **place_json(step.place),
            }
            for step in found.steps
        ],
        "omitted": found.omitted,
        "nearest": [
            {
                "policy": document_json(near.policy),
                "rule": rule_json(near.rule),
                "because": list(near.because),
            }
            for near in found.nearest
        ],
        "fix": None
        if fix is None
        else {"document": fix.text or None, "edits": list(fix.edits), "why_not": fix.why_not},
    }


def replay_json(found: Replay, *, everything: bool) -> dict[str, Any]:
    """Without `everything`, only calls whose verdict changes or is not known are told."""
    told = [r for r in found.rows if everything or r.outcome in {*CHANGED, "uncertain"}]
    return {
        "id": found.id,
        "counts": found.counts(),
        "calls": list(map(_row_json, told[:ROWS_LIMIT])),
        "omitted": max(0, len(told) - ROWS_LIMIT),
        "breaks": [
            {
                "workload": broken.name,
                "calls": broken.calls,
                "connections": broken.connections,
                "first_seen": rfc3339(broken.first_seen),
                "last_seen": rfc3339(broken.last_seen),
            }
            for broken in found.breaks
        ],
    }


def _row_json(row: Row) -> dict[str, Any]:
    call = row.call
    return {
        "outcome": row.outcome,
        "source": _end_json(call.source),
        "destination": _end_json(call.destination),
        "protocol": call.protocol,
        "port": call.port,
        "connections": call.connections,
        "first_seen": rfc3339(call.first_seen),
        "last_seen": rfc3339(call.last_seen),
        "was": row.was,
        "will": row.will,
        "reason": row.reason,
        "rule": rule_json(row.decision.rule) if row.decision.rule else None,
    }


def _end_json(party: Party) -> dict[str, Any]:
    return {
        "workload": party.workload.identity if party.workload else None,
        "address": party.address,
        "host": party.host,
    }

"""`/explain` and `/audit`: why a call is allowed or denied, and what was done by whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from netwatch.api.answers import listing
from netwatch.api.routes import Call, Parameter, Route
from netwatch.controller.judging import world_of
from netwatch.controller.service import Controller
from netwatch.model.errors import UsageError
from netwatch.policy.answers import explanation_json
from netwatch.policy.evaluate import ENFORCED, STAGED
from netwatch.policy.questions import question

Answer = Mapping[str, Any]

MODES = {"enforce": ENFORCED, "stage": STAGED}
WHO = "namespace/name or id of a workload, an address, or host."


def explain_call(controller: Controller, call: Call) -> Answer:
    """By the policies that the fleet is to enforce now."""
    query = call.query
    if not {"source", "destination"} <= query.keys():
        raise UsageError("a call has two ends", "give source and destination")
    world = world_of(controller.workloads(), controller.hosts())
    asked = question(
        world,
        query["source"],
        query["destination"],
        protocol=query.get("protocol", "tcp"),
        port=query.get("port"),
    )
    found = controller.policies.explain(asked, world, modes=MODES[query.get("mode", "enforce")])
    return {"ok": True, **explanation_json(found)}


def list_audit(controller: Controller, call: Call) -> Answer:
    """Of the host that the controller runs on."""
    entries = controller.audited(call.limit(100))
    rows = [msgspec.to_builtins(entry) for entry in entries]
    return listing("entries", rows, losses=controller.losses())


QUESTION_ROUTES = (
    Route(
        "GET",
        "/explain",
        "explain_call",
        "Why a call is allowed or denied; for a denial the nearest rule and what would allow it.",
        explain_call,
        (
            ("verdict", "Verdict"),
            ("reason", "Text"),
            ("side", "MaybeText"),
            ("isolated", "Flag"),
            ("obligations", "[Text]"),
            ("policy", "DecidingDocument"),
            ("rule", "DecidingRule"),
            ("steps", "[Step]"),
            ("omitted", "Number"),
            ("nearest", "[Near]"),
            ("fix", "Fix"),
        ),
        (
            Parameter("source", "text", f"Who calls: {WHO}"),
            Parameter("destination", "text", f"Who is called: {WHO}"),
            Parameter("protocol", "text", "tcp by default; udp, sctp, icmp …"),
            Parameter("port", "integer", "The destination's; none for ICMP.", maximum=65_535),
            Parameter(
                "mode",
                "text",
                "As it is enforced (enforce), or as if staged documents were too (stage).",
                choices=tuple(MODES),
            ),
        ),
    ),
    Route(
        "GET",
        "/audit",
        "list_audit",
        "The last lines of the controller's audit trail, oldest first.",
        list_audit,
        (("entries", "[AuditEntry]"), ("next", "Cursor"), ("losses", "Losses")),
        (Parameter("limit", "integer", "So many lines; 100.", minimum=1, maximum=1_000),),
    ),
)

"""Where agents hand in their reports: a WSGI application of its own, behind its own listener.

A report is taken from the host that the token is bound to, and from no other (semantics 7). The
body is netwatch.wire's; the answer says whether it was new, so a retry is harmless, and which
policies are to be in force, with their text where the agent does not hold it.
"""

from __future__ import annotations

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from netwatch import wire
from netwatch.api.app import add_errors
from netwatch.controller.service import Controller
from netwatch.model.errors import NetwatchError

PATH = "/agent/v1/reports"
MAX_REPORT = 16 * 1024 * 1024  # compressed; a report of 100,000 flows is about 3 MB


def create_agents_app(controller: Controller) -> Flask:
    """`POST /agent/v1/reports` with `Authorization: Bearer TOKEN`; 401, 403, 400, 413, or 200."""
    app = Flask("netwatch.api.agents", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REPORT
    add_errors(app)

    def take(host: str) -> bool:
        report = wire.unpack(request.get_data(cache=False))
        if report.host != host:
            raise NetwatchError(
                "this token belongs to another host",
                "each host has a token of its own",
                code="forbidden",
            )
        return controller.ingest(report)

    def reports() -> ResponseReturnValue:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        host = controller.agent_of(token.strip()) if kind.lower() == "bearer" else None
        if host is None:
            raise NetwatchError(
                "this is no agent's token",
                "enrol the host and give its agent_token",
                code="unauthorized",
            )
        try:
            new = take(host)
        except wire.BadReport:
            controller.refuse(host)
            raise
        wanted = controller.policies.wanted(request.headers.get(wire.HOLDS, "")[:64])
        answer = wire.pack_answer(wire.Answer(ok=True, new=new, policies=wanted))
        return Response(answer, mimetype="application/json")

    app.add_url_rule(PATH, view_func=reports, methods=["POST"])
    return app

"""Puts the API for people and programs together: pages, REST, live stream, health and metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from netwatch.api import guard, metrics
from netwatch.api.access import Sessions
from netwatch.api.answers import status_of
from netwatch.api.events import add_events
from netwatch.api.openapi import document
from netwatch.api.pages import add_pages
from netwatch.api.rest import ROUTES
from netwatch.api.routes import Call, Route, body_of, query_of
from netwatch.controller.service import Controller
from netwatch.model.errors import NetwatchError
from netwatch.resources import resource

PREFIX = "/api/v1"
READ_ONLY = "Netwatch-Read-Only"  # header of every answer while nothing new can be kept: why
STREAMS = 24  # live pages; each holds one of the server's 32 threads (server.THREADS)
MAX_BODY = 10 * 1024 * 1024  # a policy version: 4 M characters, some of them escaped in JSON

log = logging.getLogger(__name__)


def create_app(
    controller: Controller,
    *,
    clock: Callable[[], int],
    names: frozenset[str] = frozenset(),
    streams: int = STREAMS,
    stopping: threading.Event | None = None,
) -> Flask:
    """The WSGI application.

    `names` are host names and addresses it answers to beside those of loopback (`*`: every
    address); `stopping` ends the live streams; sessions last and logins wait by `clock`, in
    nanoseconds, which nobody should be able to set.
    """
    folder = Path(str(resource("web")))
    app = Flask("netwatch.api", static_folder=None, template_folder=str(folder / "templates"))
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's default provider
    sessions = Sessions()
    guard.install(app, controller=controller, sessions=sessions, names=names, clock=clock)
    add_errors(app)
    add_pages(app, folder=folder, controller=controller, sessions=sessions, clock=clock)
    _add_rest(app, controller)
    _add_health(app, controller)
    _say_read_only(app, controller)

    def admitted() -> Callable[[], bool]:
        if g.by == "token":
            return lambda: True
        id = request.cookies.get(guard.COOKIE, "")
        return lambda: sessions.valid(id, clock(), renew=False)

    add_events(
        app,
        controller=controller,
        streams=streams,
        stopping=stopping or threading.Event(),
        admitted=admitted,
    )
    return app


def _add_rest(app: Flask, controller: Controller) -> None:
    described = document(ROUTES, prefix=PREFIX)
    for route in ROUTES:
        path = PREFIX + route.path.replace("{", "<").replace("}", ">")
        app.add_url_rule(path, route.name, _serve(controller, route), methods=[route.method])
    app.add_url_rule(f"{PREFIX}/openapi.json", "openapi", lambda: jsonify(described))


def _serve(controller: Controller, route: Route) -> Callable[..., ResponseReturnValue]:
    def serve(**path: str) -> ResponseReturnValue:
        call = Call(
            query=query_of(route, request.args),
            body=body_of(route, request.get_json(silent=True)) if route.body else {},
            path=path,
            by=g.by,
        )
        answer = route.view(controller, call)
        return answer if isinstance(answer, Response) else (jsonify(answer), route.status)

    return serve


def _add_health(app: Flask, controller: Controller) -> None:
    def healthz() -> Response:
        return jsonify({"ok": True})

    def readyz() -> ResponseReturnValue:
        try:
            controller.losses()
        except Exception:  # whatever keeps the stores from answering, we are not ready
            log.exception("not ready")
            return jsonify({"ok": False, "read_only": None}), 503
        problem = controller.health.read_only
        if problem is not None:  # what there is can be read on; what comes in can not be kept
            return jsonify({**problem.as_json(), "read_only": True}), 503
        return jsonify({"ok": True, "read_only": False})

    def prometheus() -> Response:
        return Response(metrics.render(controller), mimetype="text/plain; version=0.0.4")

    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)
    app.add_url_rule("/metrics", "metrics", prometheus)


def _say_read_only(app: Flask, controller: Controller) -> None:
    def say(answer: Response) -> Response:
        problem = controller.health.read_only
        if problem is not None:
            told = f"{problem.message}; {problem.hint}"
            answer.headers[READ_ONLY] = "".join(c if " " <= c <= "~" else "?" for c in told)
        return answer

    app.after_request(say)


def add_errors(app: Flask) -> None:
    """Every error leaves as `{"ok": false, "error": {...}}`; what broke inside stays inside."""

    def known(error: NetwatchError) -> ResponseReturnValue:
        return jsonify(error.as_json()), status_of(error)

    def http(error: HTTPException) -> ResponseReturnValue:
        code = (error.name or "error").lower().replace(" ", "-")
        answer = NetwatchError(error.description or code, code=code).as_json()
        return jsonify(answer), error.code or 500

    def unforeseen(error: Exception) -> ResponseReturnValue:
        log.error("%s %s failed", request.method, request.endpoint, exc_info=error)
        answer = NetwatchError(
            "something went wrong inside the controller", "its log says what", code="internal"
        )
        return jsonify(answer.as_json()), 500

    app.register_error_handler(NetwatchError, known)
    app.register_error_handler(HTTPException, http)
    app.register_error_handler(Exception, unforeseen)

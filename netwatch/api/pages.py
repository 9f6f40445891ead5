"""What a person loads: the login, the map, and the files of the front end."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response, redirect, render_template, request, send_from_directory
from flask.typing import ResponseReturnValue

from netwatch.api.access import ABSOLUTE, Attempts, Sessions
from netwatch.api.guard import COOKIE
from netwatch.controller.service import Controller
from netwatch.model.errors import NetwatchError
from netwatch.model.times import SECOND

SUFFIXES = (".js", ".css", ".svg", ".LICENSE")  # what a browser may load from web/


def add_pages(
    app: Flask,
    *,
    folder: Path,
    controller: Controller,
    sessions: Sessions,
    clock: Callable[[], int],
) -> None:
    """Adds `/`, `/login`, `/logout`, `/static/…` and `/vendor/…`; `folder` is `web/`."""
    attempts = Attempts()

    def map_page() -> str:
        return render_template("map.html")

    def login_form() -> str:
        return render_template("login.html", next=_inside(request.args.get("next")), problem=None)

    def login() -> ResponseReturnValue:
        address = request.remote_addr or "unknown"
        now = clock()
        target = _inside(request.form.get("next"))
        wait = attempts.wait(address, now)
        if wait:
            seconds = math.ceil(wait / SECOND)
            problem = f"Too many wrong tokens; try again in {seconds} seconds."
            body = render_template("login.html", next=target, problem=problem)
            return body, 429, {"Retry-After": str(seconds)}
        if not controller.accepts(request.form.get("token", "").strip()):
            attempts.failed(address, now)
            problem = "That is not the token."
            return render_template("login.html", next=target, problem=problem), 401
        attempts.succeeded(address)
        sessions.close(request.cookies.get(COOKIE, ""))
        answer = redirect(target, 303)
        answer.set_cookie(
            COOKIE,
            sessions.open(now),
            max_age=ABSOLUTE // SECOND,
            httponly=True,
            samesite="Strict",
            secure=request.is_secure,
        )
        return answer

    def logout() -> ResponseReturnValue:
        sessions.close(request.cookies.get(COOKIE, ""))
        answer = redirect("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return answer

    def static_file(name: str) -> Response:
        return _file(folder / "static", name)

    def vendor_file(name: str) -> Response:
        return _file(folder / "vendor", name)

    app.add_url_rule("/", view_func=map_page)
    app.add_url_rule("/login", view_func=login_form)
    app.add_url_rule("/login", view_func=login, methods=["POST"])
    app.add_url_rule("/logout", view_func=logout, methods=["POST"])
    app.add_url_rule("/static/<name>", view_func=static_file)
    app.add_url_rule("/vendor/<name>", view_func=vendor_file)


def _file(folder: Path, name: str) -> Response:
    if not name.endswith(SUFFIXES):
        raise NetwatchError("there is no such file", code="not-found")
    answer = send_from_directory(folder, name)
    answer.headers["Cache-Control"] = "no-cache"  # asks each time, answered by 304
    return answer


def _inside(target: str | None) -> str:
    """A path of this server to go to after the login; never another site (open redirect)."""
    if (
        target
        and target.startswith("/")
        and target[1:2] not in ("/", "\\")
        and target.isprintable()
    ):
        return target
    return "/"

"""What every request passes before a view sees it, and every answer before it leaves.

Host name, then who asks, then whether another site made the browser ask. A route is closed unless
it is named in `OPEN`; a new route is therefore closed without anybody remembering it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, g, redirect, request
from flask.typing import ResponseReturnValue

from netwatch.api.access import Sessions
from netwatch.controller.service import Controller
from netwatch.model.errors import NetwatchError

COOKIE = "netwatch_session"
OPEN = frozenset({"healthz", "readyz", "login", "login_form", "static_file", "vendor_file"})
PAGES = frozenset({"map_page"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def install(
    app: Flask,
    *,
    controller: Controller,
    sessions: Sessions,
    names: frozenset[str],
    clock: Callable[[], int],
) -> None:
    """Puts the checks around all routes of `app`. `names` are the host names it answers to."""

    def check() -> ResponseReturnValue | None:
        if not answers_to(request.host, names):
            raise NetwatchError(
                "this server does not answer to that host name",
                "open it by its address, or by the name it listens on",
                code="misdirected",
            )
        g.by = None
        if request.endpoint not in OPEN:
            g.by = _who(controller, sessions, now=clock())
            if g.by is None:
                return _refuse()
        if request.method not in ("GET", "HEAD", "OPTIONS") and g.by != "token":
            _refuse_foreign(form=request.endpoint == "login")
        return None

    app.before_request(check)
    app.after_request(_add_headers)


def answers_to(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header is ours; a name that was rebound to our address is not.

    `names` may hold `*` (we listen on every address): then any address is ours, but no name, for
    only names can be rebound.
    """
    name = (urlsplit(f"//{host}").hostname or "") if _well_formed(host) else ""
    if name == "localhost" or name in names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or "*" in names


def _well_formed(host: str) -> bool:
    try:
        return bool(urlsplit(f"//{host}").netloc) and not set(host) & set("/@\\ ")
    except ValueError:
        return False


def _who(controller: Controller, sessions: Sessions, *, now: int) -> str | None:
    """`token`, `session` or None. A token that is wrong is not made good by a cookie."""
    header = request.headers.get("Authorization")
    if header is not None:
        kind, _, token = header.partition(" ")
        good = kind.lower() == "bearer" and controller.accepts(token.strip())
        return "token" if good else None
    # The page's own refreshing says X-Netwatch: live; it does not keep a session from idling out.
    renew = request.headers.get("X-Netwatch") != "live" and request.endpoint != "events"
    id = request.cookies.get(COOKIE, "")
    return "session" if id and sessions.valid(id, now, renew=renew) else None


def _refuse() -> ResponseReturnValue:
    if request.endpoint in PAGES and request.method == "GET":
        wanted = request.full_path.rstrip("?")
        return redirect(
            f"/login?{urlencode({'next': wanted})}" if wanted != "/" else "/login", 303
        )
    raise NetwatchError(
        "this needs a token or a session",
        "send Authorization: Bearer TOKEN; the token is in the state folder",
        code="unauthorized",
    )


def _refuse_foreign(*, form: bool) -> None:
    """Requests that change something must come from our own page (CSRF)."""
    origin = request.headers.get("Origin", "")
    own = urlsplit(origin).netloc.lower() == request.host.lower() if origin else form
    marked = form or "X-Netwatch" in request.headers or request.is_json
    if not own or not marked:
        raise NetwatchError(
            "another site may have sent this",
            "use the page itself, or a bearer token",
            code="forbidden",
        )


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.endpoint in ("login", "login_form"):
        # Under no-referrer a browser sends `Origin: null` with a form, even to its own server.
        response.headers["Referrer-Policy"] = "same-origin"
    if request.endpoint not in ("static_file", "vendor_file"):
        response.headers["Cache-Control"] = "no-store"
    return response

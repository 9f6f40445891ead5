"""Server-sent events: tells a page that something changed; the page then asks for what it shows.

One thread per open stream, therefore fewer streams than threads. `id` is the controller's counter
of changes, so a browser that reconnects learns at once whether it missed any (HTML Living
Standard, section 9.2, Last-Event-ID).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

from flask import Flask, Response, request

from netwatch.controller.service import Controller
from netwatch.model.errors import NetwatchError

ALIVE = 15  # waits of a second without news until the page hears that we are alive


def add_events(
    app: Flask,
    *,
    controller: Controller,
    streams: int,
    stopping: threading.Event,
    admitted: Callable[[], Callable[[], bool]],
) -> None:
    """Adds `/events`, at most `streams` at once.

    `admitted()` gives, inside a request, a check that its session still lives.
    """
    free = threading.BoundedSemaphore(streams)

    def events() -> Response:
        if not free.acquire(blocking=False):
            raise NetwatchError(
                f"{streams} live connections are open already", "close a page", code="busy"
            )
        still = admitted()
        source = changes(controller, _last_seen(), go_on=lambda: still() and not stopping.is_set())
        answer = Response(source, mimetype="text/event-stream")
        answer.headers["X-Accel-Buffering"] = "no"
        answer.call_on_close(free.release)
        return answer

    app.add_url_rule("/events", view_func=events)


def changes(
    controller: Controller, after: int | None, *, go_on: Callable[[], bool]
) -> Iterator[str]:
    """The text of a stream: what came after `after`, and then each change, until `go_on` ends."""
    counter = controller.wait_for_change(-1, 0).counter
    yield "retry: 2000\n\n"
    yield _event("change" if after is not None and after != counter else "alive", counter)
    quiet = 0
    while go_on():
        change = controller.wait_for_change(counter, 1.0)
        if not change.timed_out:
            counter, quiet = change.counter, 0
            yield _event("change", counter)
            continue
        quiet += 1
        if quiet >= ALIVE:
            quiet = 0
            yield _event("alive", counter)


def _event(name: str, counter: int) -> str:
    return f"id: {counter}\nevent: {name}\ndata: {json.dumps({'counter': counter})}\n\n"


def _last_seen() -> int | None:
    text = request.headers.get("Last-Event-ID", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

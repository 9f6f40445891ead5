"""The one shape of answers: lists, errors, pages of a list, and the status code of each error."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from netwatch.model.errors import NetwatchError, UsageError

T = TypeVar("T")

STATUS = {
    "usage": 400,
    "invalid-document": 400,
    "bad-report": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "ambiguous": 409,
    "conflict": 409,
    "too-many-requests": 429,
    "misdirected": 421,
    "busy": 503,
    "history-failed": 503,
    "state-failed": 503,
}


def status_of(error: NetwatchError) -> int:
    """The HTTP status that goes with an error's code; what we do not know is our fault."""
    return STATUS.get(error.code, 500)


def listing(
    name: str, rows: Sequence[Any], *, losses: Mapping[str, int], next: str | None = None
) -> dict[str, Any]:
    """`{"ok": true, NAME: [...], "next": null, "losses": {...}}`."""
    return {"ok": True, name: list(rows), "next": next, "losses": dict(losses)}


def page(
    rows: Sequence[T], *, key: Callable[[T], str], limit: int, cursor: str | None
) -> tuple[list[T], str | None]:
    """At most `limit` rows after `cursor`, in the order of `key`, and the next cursor.

    The cursor is the last key given, so a row that vanishes or appears shifts nothing. Raises
    UsageError for a cursor that can not be read.
    """
    ordered = sorted(rows, key=key)
    if cursor is not None:
        after = _decode(cursor)
        ordered = [row for row in ordered if key(row) > after]
    chosen = ordered[:limit]
    more = len(ordered) > limit
    return chosen, _encode(key(chosen[-1])) if more else None


def _encode(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode(
            "utf-8", "surrogatepass"
        )
    except (binascii.Error, ValueError):
        raise UsageError(
            "the cursor can not be read", "give `next` of the answer before, unchanged"
        ) from None

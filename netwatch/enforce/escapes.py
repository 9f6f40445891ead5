"""Sessions that had begun before the rules denied them: each is cut, counted and logged.

A container that speaks before its identity is known, on a network that does not fail closed, is
let through: nothing says yet that it may not. The same holds while somebody else's flush has taken
the rules away, or a rule was not yet expired. Once the rules deny such a session, conntrack still
knows it (a closed TCP session for 10 to 120 s, by its state), so none goes without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from netwatch.enforce import counters, sessions
from netwatch.enforce.sessions import Session

log = logging.getLogger("netwatch.enforce")

MAX_LINES = 1_000  # of one look; the rest is one line with its number


def end(found: Sequence[Session], names: Mapping[str, str], folder: Path) -> None:
    """Cut them; `names` are workloads by address, `folder` that of `host`, which counts them."""
    for session in found:
        sessions.cut(session)
    for session in found[:MAX_LINES]:
        log.warning("escaped, and cut: %s", described(session, names))
    if len(found) > MAX_LINES:
        log.warning("escaped, and cut: %d more", len(found) - MAX_LINES)
    counters.put_aside({counters.ESCAPED: len(found)}, folder)


def described(session: Session, names: Mapping[str, str]) -> str:
    """Both ends by name and address, and the port: `shop/web (198.18.0.2) -> … tcp/80`."""
    ends = (
        f"{names[address]} ({address})" if address in names else address
        for address in (session.source, session.destination)
    )
    return f"{' -> '.join(ends)} {session.protocol}/{session.port}"

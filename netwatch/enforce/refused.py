"""What may not begin for a while, because a session there broke its obligation: one file.

Kept under /run/netwatch by network namespace, beside who is quarantined. The rules are computed
from it like all others, so that every look at the host agrees on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from netwatch.enforce import kernel
from netwatch.model.snapshot import Refused
from netwatch.model.times import SECOND

REFUSED_FOR = 60 * SECOND
"""Long enough that a client does not get its first bytes through every second; then it may try
again, for it may have been mended."""
MAX_REFUSED = 4_096  # the oldest go first: who makes more is refused again when it is seen


def place() -> Path:
    """The file of this network namespace."""
    return kernel.RUN / f"refused.{kernel.namespace_inode()}.json"


def read(*, now: int) -> tuple[Refused, ...]:
    """What is refused now; a damaged file refuses nothing."""
    try:
        found = msgspec.json.decode(place().read_bytes(), type=tuple[Refused, ...])
    except (OSError, msgspec.MsgspecError):
        return ()
    return tuple(entry for entry in found if entry.until > now)


def refuse(calls: Iterable[tuple[str, str, str, int]], *, now: int) -> None:
    """Refuse these (source, destination, protocol, port) from now on for REFUSED_FOR."""
    kept = {(e.source, e.destination, e.protocol, e.port): e for e in read(now=now)}
    for call in calls:
        kept.pop(call, None)
        kept[call] = Refused(*call, until=now + REFUSED_FOR)
    entries = tuple(kept.values())[-MAX_REFUSED:]
    kernel.RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = place().with_suffix(".new")
    part.write_bytes(msgspec.json.encode(entries))
    part.replace(place())

"""Sessions that the operator leaves to end by themselves, although the rules forbid new ones.

Rules let pass what conntrack calls established; who is not cut goes on. The choice holds for the
sessions of one apply: the next makes it anew. All that is remembered here is that nobody cuts
them meanwhile. Quarantine and broken obligations end them all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from netwatch.enforce import kernel
from netwatch.enforce.sessions import Session
from netwatch.enforce.sockets import Talk
from netwatch.model.errors import NetwatchError

MAX_LEFT = 4_096  # a host with more live sessions that it wants to forbid should think again


def spared() -> frozenset[Talk]:
    """Those of this network namespace; none where the file can not be read: then they are cut."""
    try:
        return msgspec.json.decode(_place().read_bytes(), type=frozenset[Talk])
    except (OSError, msgspec.MsgspecError):
        return frozenset()


def spare(talks: Collection[Talk]) -> None:
    """Remember exactly these. Raises NetwatchError if they are too many, before any is."""
    if len(talks) > MAX_LEFT:
        raise NetwatchError(
            f"{len(talks)} sessions would be left to drain, at most {MAX_LEFT} can be",
            "netwatch host apply without --sessions drain cuts them; or tighten in steps",
            code="too-many-sessions",
        )
    if not talks:
        _place().unlink(missing_ok=True)
        return
    fresh = _place().with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(sorted(talks)))
    fresh.replace(_place())


def doomed(found: Iterable[Session]) -> list[Session]:
    """Those of these sessions that are to be cut."""
    left = spared()
    return [s for s in found if s.talk not in left and s.talk.turned not in left]


def _place() -> Path:
    """Beside the folder of `host`, so that it goes with it."""
    return kernel.RUN / f"enforce.{kernel.namespace_inode()}.draining"

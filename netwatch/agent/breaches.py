"""What is done about a flow that broke its obligation: refused for a while, and cut.

First the refusal is in the kernel, then the session ends: else its client would be back before.
Only the verdict of enforcing documents does this; those that are staged are judged, no more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from netwatch.enforce import refused, sessions, sockets
from netwatch.enforce.sockets import Talk
from netwatch.model.flow import Flow
from netwatch.model.snapshot import Snapshot

log = logging.getLogger("netwatch.agent")

VIOLATED = "violated"
MAX_WAITING = 4_096  # to be cut at one time; more are found again when they speak again


class Breaches:
    """`take` the judged flows; `cut` when the rules hold what `take` refused."""

    def __init__(self) -> None:
        self._waiting: set[Talk] = set()
        self._ended = 0
        self._dropped = 0

    def take(self, flows: Iterable[Flow], now: int) -> bool:
        """Whether there is something to refuse and to cut."""
        broken = [flow for flow in flows if flow.verdict == VIOLATED and flow.direction == "seen"]
        if not broken:
            return False
        refused.refuse(
            [
                (flow.client.address, flow.server.address, flow.protocol, flow.server.port)
                for flow in broken
                if flow.server.port is not None
            ],
            now=now,
        )
        for flow in broken:
            talk = _talk(flow)
            if talk is None or len(self._waiting) >= MAX_WAITING:
                self._dropped += 1
            else:
                self._waiting.add(talk)
        return True

    def cut(self, snapshot: Snapshot) -> None:
        """End what was taken: its sockets here, and what conntrack knows of it."""
        if not self._waiting:
            return
        doomed, self._waiting = self._waiting, set()
        sockets.end(doomed, snapshot.workloads)
        for session in sessions.live_sessions():
            if session.talk in doomed:
                sessions.cut(session)
        self._ended += len(doomed)
        for talk in sorted(doomed)[:10]:
            log.warning("%s is not encrypted as a policy demands: it is cut and refused", talk)

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason."""
        return (("broken obligations not cut", self._dropped),)


def _talk(flow: Flow) -> Talk | None:
    """The session; None for a sum of several."""
    client, server = flow.client, flow.server
    if client.port is None or server.port is None:
        return None
    return Talk(client.address, client.port, server.address, server.port, flow.protocol)

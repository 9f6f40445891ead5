"""Notices that somebody else took our programs off an interface: nothing else would tell.

Another tool that manages tc may delete a clsact qdisc with all its filters, or detach a link.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from netwatch.capture.attach import Attachment
from netwatch.capture.libbpf import BpfFailed

TOLD_S = 300.0  # as a problem of capture; the count of losses stays

log = logging.getLogger("netwatch.agent")


class Torn:
    """Looks every `look_s` seconds; `count` is of interfaces, each time that it happened."""

    def __init__(self, look_s: float) -> None:
        self.count = 0
        self._look_s = look_s
        self._looked: float | None = None
        self._last: tuple[float, str] | None = None

    def look(
        self, attached: Mapping[int, tuple[str, Sequence[Attachment]]], now: float
    ) -> list[int]:
        """The interfaces whose programs are gone; `now` is a monotonic clock in seconds."""
        if self._looked is not None and now - self._looked < self._look_s:
            return []
        since, self._looked = self._looked, now
        found = [index for index, (_, each) in attached.items() if not all(map(_is_there, each))]
        if found:
            names = ", ".join(sorted(attached[index][0] for index in found))
            blind = now - (now if since is None else since)
            text = f"another program detached capture from {names}, for {blind:.1f} s at most"
            log.warning("%s", text)
            self.count += len(found)
            self._last = now, text
        return found

    def said(self, now: float) -> str | None:
        """What happened last, while it is told."""
        if self._last is None or now - self._last[0] > TOLD_S:
            return None
        return self._last[1]


def _is_there(attachment: Attachment) -> bool:
    try:
        return attachment.is_there()
    except BpfFailed:  # it can not be asked any more: attach anew
        return False

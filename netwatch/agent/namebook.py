"""Which addresses of DNS names count for rules, and until when: bounded, kept in a file.

What one workload was told counts for all, since documents speak of a name and not of an answer.
So only what reached a workload past the rules is written here (`replies`), and what the host's own
resolver was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from netwatch.enforce.named import LAPSED, MAX_KEPT, Named, keep
from netwatch.model.learned import LearnedName
from netwatch.model.times import SECOND, passed
from netwatch.policy.ir import NamePeer
from netwatch.policy.networks import stands_for

MAX_OF_ONE = 512  # of one workload: who asks for more loses its own oldest only
WRITE_EVERY = 5 * SECOND  # what only lasts longer now, or what no document speaks of
_Key = tuple[str | None, str, str]


class NameBook:
    """`add` takes what was learned; `write` saves it when it is time."""

    def __init__(self, file: Path, known: Iterable[Named], *, grace: int) -> None:
        """`known`: what an agent before this one wrote; `grace` in nanoseconds."""
        self._file = file
        self._grace = grace
        self._kept: dict[_Key, Named] = {(e.workload, e.name, e.address): e for e in known}
        self._counts: dict[str | None, int] = {}
        for entry in self._kept.values():
            self._counts[entry.workload] = self._counts.get(entry.workload, 0) + 1
        self._changed = False
        self._written = 0
        self.dropped = 0

    def add(self, learned: Iterable[LearnedName], asked: Sequence[NamePeer], now: int) -> bool:
        """Whether something is new now that one of these names stands for."""
        news = False
        for each in learned:
            key = (each.workload, each.name, each.address)
            entry = Named(each.name, each.address, each.expires + self._grace, each.workload)
            before = self._kept.pop(key, None)
            if before is None:
                self._make_room(each.workload)
            else:
                entry = replace(entry, until=max(entry.until, before.until))
            self._kept[key] = entry
            self._changed = True
            fresh = before is None or before.until <= now
            news = news or (fresh and any(stands_for(peer, each.name) for peer in asked))
        return news

    def write(self, now: int, *, at_once: bool = False) -> None:
        """Save what changed, if it is new or the last time is long ago."""
        if not self._changed or not (at_once or passed(self._written, now, WRITE_EVERY)):
            return
        for key in [key for key, entry in self._kept.items() if entry.until + LAPSED <= now]:
            self._forget(key)
        keep(self._kept.values(), self._file)
        self._changed, self._written = False, now

    def _make_room(self, workload: str | None) -> None:
        """Entries are in the order in which they were told last."""
        if self._counts.get(workload, 0) >= MAX_OF_ONE:
            self._forget(next(key for key in self._kept if key[0] == workload))
            self.dropped += 1
        elif len(self._kept) >= MAX_KEPT:
            self._forget(next(iter(self._kept)))
            self.dropped += 1
        self._counts[workload] = self._counts.get(workload, 0) + 1

    def _forget(self, key: _Key) -> None:
        del self._kept[key]
        self._counts[key[0]] -= 1
        if not self._counts[key[0]]:
            del self._counts[key[0]]

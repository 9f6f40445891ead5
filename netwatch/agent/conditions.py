"""What the loop tells of names and obligations, which a SYN can not answer: one place for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from netwatch.agent.breaches import Breaches
from netwatch.agent.replies import Replies
from netwatch.model.flow import Flow
from netwatch.model.learned import LearnedName
from netwatch.model.snapshot import Snapshot


class Conditions:
    """`follow` after each look at the rules, `take` once a tick."""

    def __init__(self, replies: Replies, breaches: Breaches) -> None:
        self._replies = replies
        self._breaches = breaches
        self._wake: Callable[[], None] = lambda: None

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from any thread, when the rules have to be looked at."""
        self._wake = wake
        self._replies.listen(wake)

    def follow(self, snapshot: Snapshot) -> None:
        """The rules hold what was learned and refused until now."""
        self._breaches.cut(snapshot)
        self._replies.know(snapshot)

    def take(self, flows: Sequence[Flow], learned: Iterable[LearnedName], now: int) -> None:
        """Judged flows, and the names that capture learned."""
        self._replies.take(learned, now)
        if self._breaches.take(flows, now):
            self._wake()

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Cumulative, by reason."""
        return (*self._replies.losses(), *self._breaches.losses())

    def close(self) -> None:
        """Hear no more."""
        self._replies.close()

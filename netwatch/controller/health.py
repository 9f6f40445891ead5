"""Whether what comes in can be kept. While it can not, the controller only shows what it has."""

from __future__ import annotations

import threading
from collections.abc import Callable

from netwatch.model.errors import NetwatchError

Wrote = Callable[[NetwatchError | None], None]


class Health:
    """What each store said of its last write; over by itself with the next one that succeeds."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called when the problem begins, changes its store, or is over."""
        self._changed = changed
        self._lock = threading.Lock()
        self._failed: dict[str, NetwatchError] = {}

    def of(self, store: str) -> Wrote:
        """What this store calls after each write, with what kept it from writing."""

        def wrote(failure: NetwatchError | None) -> None:
            if failure is None and store not in self._failed:
                return  # nearly always; so that no write waits for another
            with self._lock:
                before = set(self._failed)
                if failure is None:
                    self._failed.pop(store, None)
                else:
                    self._failed[store] = failure
                other = before != set(self._failed)
            if other:
                self._changed()

        return wrote

    @property
    def read_only(self) -> NetwatchError | None:
        """Why nothing new is kept; None if it is."""
        return next(iter(list(self._failed.values())), None)

"""Which reports were counted, as far as it must be remembered to count none of them twice."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 4_096  # sequence numbers remembered per boot; an hour of reports each second


class Ledger:
    """Which reports were counted: the last WINDOW of each boot one by one, all before as known."""

    def __init__(self, rows: Sequence[tuple[str, str, int]]) -> None:
        self._seen: dict[tuple[str, str], set[int]] = {}
        self._last: dict[tuple[str, str], int] = {}
        for host, boot, sequence in rows:
            self.add(host, boot, sequence)

    def has(self, host: str, boot: str, sequence: int) -> bool:
        """Whether it was counted, or is too old to be counted now."""
        key = (host, boot)
        if key not in self._last:
            return False
        return sequence in self._seen[key] or sequence <= self._last[key] - WINDOW

    def add(self, host: str, boot: str, sequence: int) -> None:
        """Remembers one that was counted."""
        key = (host, boot)
        seen = self._seen.setdefault(key, set())
        seen.add(sequence)
        last = self._last[key] = max(sequence, self._last.get(key, sequence))
        if len(seen) > 2 * WINDOW:
            self._seen[key] = {number for number in seen if number > last - WINDOW}

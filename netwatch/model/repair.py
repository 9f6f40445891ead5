"""A repair: what others had changed in our rules, for how long at most, and that it is undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwatch.model.times import rfc3339


@dataclass(frozen=True, slots=True)
class Repair:
    """`since`: when all was last seen to be right; `at`: when it was again (ns since the epoch).

    `differences` in sentences. `by`: programs that changed nftables meanwhile, as the kernel names
    them; empty where it does not tell (legacy tables, sets).
    """

    since: int
    at: int
    differences: tuple[str, ...]
    by: tuple[str, ...] = ()


def repair_as_json(repair: Repair) -> dict[str, Any]:
    """The object in `netwatch hosts --json`, and an alert's evidence."""
    return {
        "right_until": rfc3339(repair.since),
        "repaired": rfc3339(repair.at),
        "open_ms_at_most": (repair.at - repair.since) / 1e6,
        "differences": list(repair.differences),
        "by": list(repair.by),
    }

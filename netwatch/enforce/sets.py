"""Sets in the kernel: read by `ipset save`, changed by `ipset restore`, deltas only."""

from __future__ import annotations

from collections.abc import Sequence

from netwatch.enforce.plan import SETS
from netwatch.kernel import commands


def read_sets() -> dict[str, tuple[str, frozenset[str]]]:
    """Every set of ours in this network namespace: title to (kind, members)."""
    kinds: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for line in commands.check(["ipset", "save"]).splitlines():
        verb, title, rest = line.split(" ", 2)
        if not title.startswith(SETS):
            continue
        if verb == "create":
            kinds[title] = rest.split(" ", 1)[0]
            members[title] = []
        elif verb == "add":
            members[title].append(rest.split(" ", 1)[0])
    return {title: (kind, frozenset(members[title])) for title, kind in kinds.items()}


def restore_sets(lines: Sequence[str]) -> None:
    """Run these lines in order; one that is already so is no error (`-exist`)."""
    if lines:
        commands.check(["ipset", "-exist", "restore"], feed="\n".join((*lines, "")))

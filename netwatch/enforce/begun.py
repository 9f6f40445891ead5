"""What sessions are held to that began already: more than may begin now, never less.

A session to an address whose name has lapsed lives on, as long as documents speak of the name; and
one broken obligation does not end the good sessions beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netwatch.enforce.compile import compile
from netwatch.enforce.ruleset import Ruleset
from netwatch.model.snapshot import Addresses, Snapshot
from netwatch.policy.ir import Policy


def lenient(
    ruleset: Ruleset, policies: Sequence[Policy], snapshot: Snapshot, *, now: int
) -> Ruleset:
    """The ruleset by which live sessions are judged; the given one wherever that is the same."""
    if not snapshot.lapsed and not snapshot.refused:
        return ruleset
    return compile(policies, remembering(snapshot), now=now)


def remembering(snapshot: Snapshot) -> Snapshot:
    """With every name at all its addresses, lapsed ones too, and nothing refused."""
    names: dict[str, set[str]] = {}
    for name, addresses in (*snapshot.names, *snapshot.lapsed):
        names.setdefault(name, set()).update(addresses)
    united: Addresses = tuple((name, tuple(sorted(names[name]))) for name in sorted(names))
    return replace(snapshot, names=united, lapsed=(), refused=())

"""Networks that fail closed stay so while the documents stay, whoever of theirs has gone.

The governed workload may be away for a moment (dockerd restarts everything): were its network open
meanwhile, strangers would get through before anybody knows them. Told by bridge, in one small file
of this network namespace under /run; `host.apply` begins anew,
and `host.remove` takes it away.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from netwatch.enforce import kernel
from netwatch.enforce.ruleset import Ruleset


def place() -> Path:
    """The file of the network namespace of the calling thread."""
    return kernel.RUN / f"enforce.{kernel.namespace_inode()}.closed.json"


def read() -> tuple[str, ...]:
    """Bridges that were closed; a damaged file is as good as none."""
    try:
        return msgspec.json.decode(place().read_bytes(), type=tuple[str, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


def keep(bridges: Iterable[str]) -> None:
    """Write them, whole or not at all, if they are others than before."""
    told = tuple(sorted(bridges))
    if told != read():
        file = place()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(told))
        fresh.replace(file)


def bridges_of(ruleset: Ruleset) -> frozenset[str]:
    """The bridges on which these rules drop unknown sources."""
    return frozenset(
        member.partition(",")[2]
        for each in ruleset.sets
        if each.name == "nw-bridge"
        for member in each.members
    )

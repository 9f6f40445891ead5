"""Exact totals of what the rules refused: read from the rules' counters, kept over restarts.

NFLOG is a sample. The chains that end a denial hold one rule each and are the same for all
policies (see `chains`), so that a change of policy resets none; before one of them goes, what it
counted is put aside. What `iptables -Z`, a flush or a reboot resets is seen as a fall, or by the
epoch, and counted on. Reading costs one `iptables-save -c` for each family: about 5 ms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from netwatch.enforce import kernel
from netwatch.enforce.chains import DENIED, UNKNOWN, WOULD_DENY
from netwatch.enforce.conditions import MISSED
from netwatch.enforce.cordon import DROP as QUARANTINED
from netwatch.enforce.plan import Plan
from netwatch.enforce.ruleset import FAMILIES

# `missed`: those to the outside by ends with a rule by DNS name, dropped in silence.
# `invalid`: packets that belong to no connection, of ends that are isolated.
CHAINS = {
    DENIED: "denied",
    MISSED: "missed",
    WOULD_DENY: "would-deny",
    UNKNOWN: "unknown",
    QUARANTINED: "quarantined",
    "NW-STRICT": "invalid",
}
ESCAPED = "escaped"  # sessions, not packets: they had begun before they were denied
KINDS = (*CHAINS.values(), ESCAPED)
BANKED = "banked.json"
_RULE = re.compile(r"\[(\d+):\d+\] -A (\S+) .*-j (?:DROP|REJECT|RETURN)\b")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Kept(msgspec.Struct, frozen=True):
    """What an agent saved: packets by kind, as read last and in all since `since` (ns)."""

    epoch: str = ""
    since: int = 0
    last: dict[str, int] = {}
    total: dict[str, int] = {}


def counted(text: str) -> dict[str, int]:
    """Packets by kind in what `iptables-save -c` printed."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        rule = _RULE.match(line)
        if rule and rule[2] in CHAINS:
            kind = CHAINS[rule[2]]
            found[kind] = found.get(kind, 0) + int(rule[1])
    return found


def read(backend: str, folder: Path) -> dict[str, int]:
    """Packets of both families by kind, since the first apply; `folder`: that of `host`."""
    return _sum(_in_kernel(backend), _banked(folder))


def _in_kernel(backend: str) -> dict[str, int]:
    return counted("".join(kernel.saved(backend, f, counters=True) for f in FAMILIES))


def bank(change: Plan, backend: str, folder: Path) -> None:
    """Put aside what is counted in chains that this change takes away or writes anew."""
    declared = {line.split(" ")[0] for _, lines in change.rules for line in lines}
    kinds = {kind for chain, kind in CHAINS.items() if f":{chain}" in declared}
    if kinds and folder.is_dir():
        put_aside({k: n for k, n in _in_kernel(backend).items() if k in kinds}, folder)


def put_aside(more: Mapping[str, int], folder: Path) -> None:
    """Add to what is kept beside the kernel's counters."""
    if any(more.values()) and folder.is_dir():
        _write(folder / BANKED, msgspec.json.encode(_sum(more, _banked(folder))))


def _banked(folder: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode((folder / BANKED).read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {kind: one.get(kind, 0) + other.get(kind, 0) for kind in sorted({*one, *other})}


def epoch(folder: Path) -> str:
    """Changes when counters may have begun anew: with the boot, and with the first apply."""
    try:
        born = (folder / "before.json").stat().st_mtime_ns
    except OSError:
        born = 0
    return f"{_BOOT.read_text().strip()}:{born}"


def added(kept: Kept, now_read: Mapping[str, int], era: str) -> Kept:
    """What is kept after counters were read; a counter that fell began anew. Never less."""
    same = kept.epoch == era
    total = dict(kept.total)
    for kind, count in now_read.items():
        before = kept.last.get(kind, 0) if same else 0
        total[kind] = total.get(kind, 0) + (count - before if count >= before else count)
    return Kept(era, kept.since, dict(now_read), total)


def file_of(state: Path, name: str) -> Path:
    """Where the agent of a host keeps its totals."""
    return state / f"totals.{re.sub(r'[^A-Za-z0-9.-]', '_', name)[:64]}.json"


def load(file: Path) -> Kept:
    """What was saved; nothing if there is no file, or a damaged one."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return Kept()


def save(file: Path, kept: Kept) -> None:
    """Whole or not at all."""
    _write(file, msgspec.json.encode(kept))


def _write(file: Path, data: bytes) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(file)


def totals(file: Path, backend: str, folder: Path) -> dict[str, int]:
    """Packets by kind up to now: what an agent saved, and what came since. Saves nothing."""
    return added(load(file), read(backend, folder), epoch(folder)).total

"""A closed gate before the networks of workloads, from boot until somebody can tell them apart.

When a host has booted, containers start before anybody knows their new addresses. So the bridges
that were closed before are shut whole, both ways: in the table `mangle`, which runtimes do not
reorder, and only drops. Whoever then looks at the workloads puts the rules in force and opens it.
Where br_netfilter is not loaded, packets within a bridge are not seen here either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from netwatch.enforce import closures, kernel, netlink
from netwatch.enforce.render import word
from netwatch.enforce.ruleset import FAMILIES, Ruleset
from netwatch.enforce.writers import LOCK_WAIT_S, PROGRAM
from netwatch.kernel import commands
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot

HOOKS = {"PREROUTING": ("NW-GATE-IN", "-i"), "POSTROUTING": ("NW-GATE-OUT", "-o")}
_JUMP = re.compile(r"^-A (PREROUTING|POSTROUTING) .*-j NW-GATE-(?:IN|OUT)$", re.MULTILINE)
_MADE = "gate"  # remembers which tables and base chains were there before


def bridges_to_close(ruleset: Ruleset, snapshot: Snapshot) -> tuple[str, ...]:
    """Bridges that the rules close, and those of whoever is quarantined."""
    found = set(closures.bridges_of(ruleset))
    held = {entry.workload for entry in snapshot.quarantined}
    names = {
        name
        for workload in snapshot.workloads
        if workload.key in held
        for name in (*workload.networks, *(i.network for i in workload.interfaces))
    }
    found |= {n.bridge for n in snapshot.networks if n.name in names and n.bridge}
    return tuple(sorted(found))


def shut(bridges: Sequence[str], backend: str) -> None:
    """Let nothing through these bridges; they need not exist yet. Raises CommandFailed."""
    kernel.RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_shut():
        before = sorted(netlink.nft_tables() | netlink.nft_hooks())
        _made().write_text(f"{backend}\n" + "\n".join(before))
    for name, value in kernel.sysctls().items():
        if value != "1":
            with suppress(NetwatchError):  # the rest of the gate holds without it
                kernel.set_sysctl(name, "1")
    for family in FAMILIES:
        lines = [f":{chain} - [0:0]" for chain, _ in HOOKS.values()]
        lines += _gone(backend, family)
        for hook, (chain, side) in HOOKS.items():
            lines += [f"-A {chain} {side} {word(bridge)} -j DROP" for bridge in bridges]
            lines.append(f"-I {hook} 1 -j {chain}")
        _restore(backend, family, lines)


def is_shut() -> bool:
    """Whether the gate of this network namespace is shut."""
    return _made().exists()


def open_gate() -> None:
    """Let everything through again, and leave no trace; nothing where it is not shut."""
    try:
        backend, *before = _made().read_text().splitlines()
    except FileNotFoundError:
        return
    for family, title in zip(FAMILIES, ("ip mangle", "ip6 mangle"), strict=True):
        lines = [f":{chain} - [0:0]" for chain, _ in HOOKS.values()]
        lines += _gone(backend, family)
        lines += [f"-X {chain}" for chain, _ in HOOKS.values()]
        _restore(backend, family, lines)
        if title not in before and title in netlink.nft_tables() and _bare(backend, family):
            netlink.delete_nft_table(title)
        for hook in {f"{title} {name}" for name in HOOKS} & netlink.nft_hooks() - {*before}:
            netlink.delete_nft_hook(hook)  # what holds a rule of somebody's stays
    _made().unlink(missing_ok=True)


def _made() -> Path:
    return kernel.RUN / f"{_MADE}.{kernel.namespace_inode()}"


def _gone(backend: str, family: int) -> Iterable[str]:
    """Lines that take away the jumps to the gate that are there."""
    hooks = _JUMP.findall(_saved(backend, family))
    return [f"-D {hook} -j {HOOKS[hook][0]}" for hook in hooks]


def _saved(backend: str, family: int) -> str:
    return commands.check([f"{PROGRAM[family]}-{backend}-save", "-t", "mangle"])


def _bare(backend: str, family: int) -> bool:
    lines = [line for line in _saved(backend, family).splitlines() if line[:1] in (":", "-")]
    return all(line.startswith(":") and " ACCEPT " in line for line in lines)


def _restore(backend: str, family: int, lines: Iterable[str]) -> None:
    text = "\n".join(("*mangle", *lines, "COMMIT", ""))
    program = f"{PROGRAM[family]}-{backend}-restore"
    commands.check([program, "--noflush", "-w", str(LOCK_WAIT_S)], feed=text)

"""The emergency switch of one host: no policy is enforced until it is switched on again.

It asks no controller, and no runtime that does not answer; a state folder that can not be written
or read costs a warning. What was in force is kept for `turn_on`; agent, boot and `host apply`
stand still meanwhile. Quarantine stays unless it is told to go: where workloads can not be told,
its rules and sets stay as they are in the kernel, and only the policies' are taken away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from netwatch.enforce import confirm, gate, host, kernel, quarantine, reboot, standing
from netwatch.enforce.cordon import INSIDE
from netwatch.enforce.plan import CHAINS, Actual, Plan, Step
from netwatch.enforce.portguard import NO_GUARD, guard_change
from netwatch.enforce.ruleset import FAMILIES, HOOKS
from netwatch.enforce.sets import restore_sets
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot

PATIENCE_S = 15.0  # an apply that is under way, or an agent's look, ends before that
PAUSE_S = 0.05
QUARANTINE_CHAINS, QUARANTINE_SETS = "NW-Q-", ("nw-q-", INSIDE)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Off:
    """`removed`: whether there was anything; who stays quarantined; what did not work."""

    removed: bool
    quarantined: tuple[str, ...]
    warnings: tuple[str, ...]


def turn_off(look: Callable[[], Snapshot], *, release_all: bool, now: int) -> Off:
    """Take the policies out of the kernel at once, and leave the word that they stay out.

    Raises CommandMissing, Busy after `PATIENCE_S`, NotApplied if the kernel refuses.
    """
    warnings: list[str] = []
    if not confirm.pending():
        warnings += _stand()
    warnings += standing.switch_off()
    confirm.drop()
    held, damaged = _held(warnings)
    if release_all or not (held or damaged):
        removed = _patiently(
            lambda: (
                quarantine.remove(release_all=True, for_good=False)
                if release_all
                else host.remove(for_good=False)
            )
        )
        return Off(removed, (), tuple(warnings))
    try:
        if damaged:
            raise NetwatchError("the list of who is quarantined is damaged")
        _patiently(lambda: quarantine.enforce_only([], look(), backend=_backend(), now=now))
    except kernel.Busy:
        raise
    except NetwatchError as error:
        warnings.append(f"{error.message}: the rules of the quarantine stay as they are")
        _patiently(_only_quarantine)
    return Off(True, held, tuple(warnings))


def turn_on(look: Callable[[], Snapshot], *, now: int) -> reboot.Restored:
    """Put back what was in force; raises what `reboot.restore` raises."""
    standing.switch_on()
    return _patiently(lambda: reboot.restore(look(), now=now))


def _stand() -> tuple[str, ...]:
    """Keep what is in force for `turn_on`; a broken folder is no reason to go on enforcing."""
    try:
        told = host.stand()
    except (NetwatchError, OSError) as error:
        told = f"what was in force can not be kept: {error}"
    return (told,) if told else ()


def _held(warnings: list[str]) -> tuple[tuple[str, ...], bool]:
    """Who is quarantined, and whether somebody is whom nobody can name."""
    try:
        return tuple(entry.workload for entry in quarantine.quarantined()), False
    except NetwatchError as error:
        warnings.append(error.message)
        return (), True


def _backend() -> str:
    with suppress(NetwatchError):
        state = host.applied()
        return state.backend if state else kernel.AUTO
    return kernel.AUTO


def _only_quarantine() -> None:
    """Leave what quarantine needs exactly as it is, without knowing whom it means."""
    with kernel.lock():
        for backend in (kernel.NFT, kernel.LEGACY):
            actual = kernel.read(backend)
            guard = guard_change(NO_GUARD, actual.guard, [])
            kernel.carry_out(Plan(tuple(_reduced(actual)), guard=guard), backend)
        ours = (name for name in actual.sets if not name.startswith(QUARANTINE_SETS))
        restore_sets([f"destroy {name}" for name in sorted(ours)])
        gate.open_gate()


def _reduced(actual: Actual) -> Iterator[Step]:
    """The restores that leave jumps and quarantine."""
    for family in FAMILIES:
        declared, body, gone = [], [], []
        for (known, name), texts in sorted(actual.texts.items()):
            if (
                known != family
                or not name.startswith(CHAINS)
                or name.startswith(QUARANTINE_CHAINS)
            ):
                continue
            declared.append(f":{name} - [0:0]")
            if name in HOOKS.values():
                body += [text for text in texts if f"-g {QUARANTINE_CHAINS}" in text]
            else:
                gone.append(f"-X {name}")
        if declared:
            yield Step(family, ("*filter", *declared, *body, *gone, "COMMIT"))


def _patiently(work: Callable[[], T]) -> T:
    """Whoever changes the rules at this moment is waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return work()
        except kernel.Busy:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)

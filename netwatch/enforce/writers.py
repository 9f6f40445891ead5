"""Who gives rules to the kernel: the programs of iptables, or python-iptables on legacy hosts.

Both take the same lines, hold the lock of iptables while they write, give the kernel a whole
table or nothing, and are ended at a deadline. What they wrote is read back by `kernel.read`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from netwatch.kernel import commands
from netwatch.model.errors import NetwatchError

RESTORE, PYTHON_IPTABLES = "restore", "python-iptables"
NAMES = (RESTORE, PYTHON_IPTABLES)
NAME_OF_LEGACY = "legacy"
LOCK_WAIT_S = 5  # for /run/xtables.lock; iptables-nft ignores it, so all is read back
PROGRAM = {4: "iptables", 6: "ip6tables"}
MISSING = "pip install 'netwatch[python-iptables]' (it is compiled: apt-get install gcc libc6-dev)"


class Writer(Protocol):
    """Changes one family's filter table."""

    def restore(self, family: int, lines: Sequence[str], *, check_only: bool) -> None:
        """Do these lines of iptables-restore --noflush, all or none; `check_only` only tries.

        Raises CommandFailed for what is refused, for a lock that others hold, and at the
        deadline; CommandMissing if it is not installed.
        """


@dataclass(frozen=True, slots=True)
class Restore:
    """iptables-restore of a backend, nft or legacy."""

    backend: str
    wait_s: int = LOCK_WAIT_S
    deadline_s: float = commands.DEADLINE_S

    def restore(self, family: int, lines: Sequence[str], *, check_only: bool) -> None:
        """As `Writer` says."""
        program = f"{PROGRAM[family]}-{self.backend}-restore"
        test = ["--test"] if check_only else []
        command = [program, "--noflush", "-w", str(self.wait_s), *test]
        commands.check(command, feed=_text(lines), deadline_s=self.deadline_s)


@dataclass(frozen=True, slots=True)
class PythonIptables:
    """python-iptables in a process of its own (see `iptc_restore`), for legacy tables."""

    wait_s: int = LOCK_WAIT_S
    deadline_s: float = commands.DEADLINE_S

    def restore(self, family: int, lines: Sequence[str], *, check_only: bool) -> None:
        """As `Writer` says."""
        if not installed():
            raise commands.CommandMissing(
                "the writer python-iptables is chosen and not installed",
                f"{MISSING}, or set writer to {RESTORE}",
            )
        # -P: nothing that lies in the working folder is imported as root
        child = [sys.executable, "-P", "-m", "netwatch.enforce.iptc_restore"]
        child += [str(family), str(self.wait_s)]
        test = ["--test"] if check_only else []
        outcome = commands.run([*child, *test], feed=_text(lines), deadline_s=self.deadline_s)
        if outcome.code:
            said = outcome.err.strip().splitlines()
            raise commands.CommandFailed(
                f"python-iptables ended with {outcome.code}: {said[-1] if said else 'no word'}",
                f"set writer to {RESTORE} if this stays",
            )


def installed() -> bool:
    """Whether python-iptables is there."""
    return find_spec("iptc") is not None


def writer_of(backend: str, name: str) -> Writer:
    """The writer of that name, where it can write; legacy tables are all python-iptables knows.

    Raises NetwatchError for a name that is none.
    """
    if name not in NAMES:
        raise NetwatchError(f"the setting writer is {name!r}", f"it may be {' or '.join(NAMES)}")
    return (
        PythonIptables()
        if name == PYTHON_IPTABLES and backend == NAME_OF_LEGACY
        else Restore(backend)
    )


def _text(lines: Sequence[str]) -> str:
    return "\n".join((*lines, ""))

"""What iptables-legacy-restore does with our rules, done by python-iptables: a program of its own.

`python -m netwatch.enforce.iptc_restore FAMILY WAIT_S [--test] < RULES`. The library maps libiptc
and its extensions into whoever imports it: it takes no lock, keeps one table for each process,
leaks what extensions allocate, and a mistake in an extension would end the agent. So it is held at
arm's length: a child reads the table, changes it in memory and commits it once, holding the lock
of iptables, and its deadline is that of every command. It ends as iptables-restore does: 0, 2 for
rules that can not be, 4 for a lock or a table that others hold.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

LOCK_FILE = "/run/xtables.lock"  # XTABLES_LOCKFILE moves it, as for iptables itself
LOCK_POLL_S = 0.02
BUSY, WRONG = 4, 2
_INTERFACE = {"-i": "in_interface", "-o": "out_interface"}
_IMPLIED = {"icmpv6": "icmp6"}  # the match that `-p PROTOCOL` brings along, where named otherwise


class Refused(Exception):
    """A line that can not be done; its text says which and why."""


@contextmanager
def held(path: str, *, wait_s: float) -> Iterator[None]:
    """iptables' own lock, without which two writers lose each other's rules."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def options(words: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The rule as (option, values), "!" first among the values of what is negated.

    `-p tcp ! --syn -j DROP` is [("-p", ("tcp",)), ("--syn", ("!",)), ("-j", ("DROP",))].
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    negated = False
    for each in words:
        if each == "!":
            negated = True
        elif each.startswith("-"):
            found.append((each, ("!",) if negated else ()))
            negated = False
        elif found:
            name, values = found[-1]
            found[-1] = (name, (*values, each))
        else:
            raise Refused(f"{each!r} follows no option")
    return found


class Batch:
    """One family's filter table, read once, changed in memory, committed once."""

    def __init__(self, family: int) -> None:
        import iptc

        self._rule = iptc.Rule if family == 4 else iptc.Rule6
        kind = iptc.Table if family == 4 else iptc.Table6
        # Else the library asks every table for chains of a target's name, which makes the tables.
        kind.existing_table_names.update({name: name == kind.FILTER for name in kind.ALL})
        self.table = kind(kind.FILTER, autocommit=False)
        self._chain = iptc.Chain

    def do(self, line: str) -> None:
        """One line of iptables-restore; raises Refused, or an error of the library."""
        if line.startswith(":"):
            self._declare(line[1:].split(" ", 1)[0])
            return
        verb, chain, *rest = shlex.split(line)
        if verb != "-X" and not self.table.is_chain(chain):
            raise Refused(f"there is no chain {chain}")
        match verb:
            case "-A":
                self.table.append_entry(chain, self._made(rest, chain).rule)
            case "-I":
                self.table.insert_entry(chain, self._made(rest[1:], chain).rule, int(rest[0]) - 1)
            case "-D":
                rule = self._made(rest, chain)
                self.table.delete_entry(chain, rule.rule, rule.mask)
            case "-X":
                self.table.delete_chain(chain)
            case _:
                raise Refused(f"{verb} is nothing that rules of ours say")

    def commit(self) -> None:
        """Give the kernel the whole table at once; it takes all of it or nothing."""
        self.table.commit()

    def _declare(self, name: str) -> None:
        if self.table.is_chain(name):
            self.table.flush_entries(name)
        else:
            self.table.create_chain(name)

    def _in(self, name: str) -> Any:
        return self._chain(self.table, name)

    def _made(self, words: list[str], chain: str) -> Any:
        rule = self._rule(chain=self._in(chain))
        part: Any = None
        protocol = ""
        for name, values in options(words):
            if part is not None and not name.startswith("--"):
                part._final_check()  # before a second match of its kind resets what it was given
                part = None
            match name:
                case "-m":
                    part = self._steadied(rule.create_match(values[0]))
                case "-p":
                    rule.protocol = protocol = values[0]
                case "-i" | "-o":
                    setattr(rule, _INTERFACE[name], "".join(values))
                case "-j" | "-g":
                    self._must_be(values[0])
                    part = self._steadied(rule.create_target(values[0], goto=name == "-g"))
                case _ if name.startswith("--"):
                    implied = _IMPLIED.get(protocol, protocol)
                    part = part or self._steadied(rule.create_match(implied))
                    part.set_parameter(name[2:], _argument(values))
                case _:
                    raise Refused(f"{name} is nothing that rules of ours say")
        if part is not None:
            part._final_check()
        return rule

    def _steadied(self, part: Any) -> Any:
        """A match or target with scratch memory that lives while its options are read.

        The library frees its own at once (1.2.0), which ends the process at the second option of
        hashlimit; its public final_check would read every option anew, with the same end.
        """
        size = getattr(part._module, "udata_size", 0)
        if size:
            self._scratch = (ctypes.c_ubyte * size)()
            part._module.udata = ctypes.cast(ctypes.byref(self._scratch), ctypes.c_void_p)
        return part

    def _must_be(self, target: str) -> None:
        """What begins like a chain of ours is no extension; the library would look for one."""
        if target.startswith("NW-") and not self.table.is_chain(target):
            raise Refused(f"there is no chain {target}")


def _argument(values: tuple[str, ...]) -> str | list[str]:
    """As the library wants it: text, or a list of more than one."""
    if values and values[0] == "!":
        return ["!", *values[1:]] if len(values) > 2 else "".join(values)
    return list(values) if len(values) > 1 else "".join(values)


def restore(family: int, lines: Iterable[str], *, check_only: bool) -> None:
    """All of it or nothing; raises Refused and the library's errors."""
    batch = Batch(family)
    for line in lines:
        if line in ("*filter", "COMMIT", ""):
            continue
        try:
            batch.do(line)
        except Exception as error:
            raise Refused(f"{line[:200]!r}: {_said(error)}") from None
    if not check_only:
        batch.commit()


def _said(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]


def main(arguments: list[str]) -> int:
    """The exit code; what is wrong is one line on standard error."""
    family, wait_s = int(arguments[0]), float(arguments[1])
    lines = sys.stdin.read().splitlines()
    try:
        import iptc  # noqa: F401  # takes most of the time, so it is done before the lock is held

        with held(os.environ.get("XTABLES_LOCKFILE") or LOCK_FILE, wait_s=wait_s):
            restore(family, lines, check_only="--test" in arguments)
    except BlockingIOError:
        sys.stderr.write("another program holds the lock of iptables\n")
        return BUSY
    except ImportError as error:
        sys.stderr.write(f"python-iptables can not be used: {_said(error)}\n")
        return WRONG
    except Exception as error:
        sys.stderr.write(f"{_said(error)}\n")
        return BUSY if "temporarily unavailable" in str(error) else WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

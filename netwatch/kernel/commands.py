"""The only module that runs commands: always a list (no shell), always with a deadline."""

from __future__ import annotations

import ctypes
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from netwatch.model.errors import NetwatchError

PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
WITH_PARENT = "NETWATCH_WITH_PARENT"  # set for children that must not outlive who started them
DEADLINE_S = 10.0  # two in a row, and the agent's watchdog (30 s) still sees its loop turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left: exit code, standard output and standard error as text."""

    code: int
    out: str
    err: str


class CommandMissing(NetwatchError):
    """A program that is needed is not installed."""

    code = "command-missing"


class CommandFailed(NetwatchError):
    """A program ran and did not succeed, or did not end in time."""

    code = "command-failed"


PACKAGES = {
    "iptables": "iptables",
    "ip6tables": "iptables",
    "iptables-save": "iptables",
    "iptables-restore": "iptables",
    "ipset": "ipset",
    "ip": "iproute2",
    "nft": "nftables",
}


def package_of(program: str) -> str:
    """The Debian package that holds a program."""
    return PACKAGES.get(program, "iptables" if "tables" in program else program)


def available(program: str) -> bool:
    """Whether the program is on PATH."""
    return shutil.which(program) is not None


def run(
    arguments: Sequence[str], *, feed: str | None = None, deadline_s: float = DEADLINE_S
) -> Outcome:
    """Run a command to its end, in the caller's network namespace; the exit code is not judged.

    Raises CommandMissing if it is not installed, CommandFailed if the deadline passes (it is
    killed then).
    """
    try:
        done = subprocess.run(
            list(arguments),
            input=feed,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
        )
    except FileNotFoundError:
        program = arguments[0]
        raise CommandMissing(
            f"the program {program} is not installed",
            f"install it: apt-get install {package_of(program)}",
        ) from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(
            f"{arguments[0]} did not end within {deadline_s:g} s and was killed",
            "see what holds it: another firewall tool, or a lock on /run/xtables.lock",
        ) from None
    return Outcome(done.returncode, done.stdout, done.stderr)


def check(
    arguments: Sequence[str], *, feed: str | None = None, deadline_s: float = DEADLINE_S
) -> str:
    """`run`, but a non-zero exit raises CommandFailed with the program's own first line."""
    outcome = run(arguments, feed=feed, deadline_s=deadline_s)
    if outcome.code:
        said = (outcome.err.strip() or outcome.out.strip() or "it said nothing").splitlines()[0]
        raise CommandFailed(f"{' '.join(arguments[:4])} ended with {outcome.code}: {said}")
    return outcome.out


def start(
    arguments: Sequence[str], *, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a long-lived child without standard input or output; what it complains of is seen.

    The caller ends it.
    """
    return subprocess.Popen(
        list(arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the process that started this one dies (prctl(2))."""
    ctypes.CDLL("libc.so.6", use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def wait(child: subprocess.Popen[bytes], *, deadline_s: float) -> int:
    """The exit code of a child that was asked to end; past the deadline it is killed."""
    try:
        return child.wait(deadline_s)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()

"""Rules in the kernel: where they live, how they are read back, and one change at a time.

Written to the backend that the runtime uses: a rule in the other one would filter too, but could
not be hooked into DOCKER-USER, and an administrator would not see it.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from netwatch.enforce.nftables import read_guard, write_guard
from netwatch.enforce.plan import CHAINS, DOCKER_USER, NOTHING, Actual, Plan, Step
from netwatch.enforce.plan import plan as plan_of
from netwatch.enforce.ruleset import FAMILIES, HOOKS
from netwatch.enforce.sets import NotApplied, read_sets, restore_sets
from netwatch.enforce.writers import NAME_OF_LEGACY, PROGRAM, Writer, writer_of
from netwatch.kernel import commands
from netwatch.model.errors import NetwatchError
from netwatch.settings import load

NFT, LEGACY, AUTO = "nft", NAME_OF_LEGACY, "auto"
RUN = Path("/run/netwatch")
_NAMES = {4: "ip_tables_names", 6: "ip6_tables_names"}
_MARK = re.compile(r'--comment "?(nw:[0-9a-f]{10})"?')
_SYSCTLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
_BRIDGE = Path("/proc/sys/net/bridge")


class Busy(NetwatchError):
    """Somebody else is changing this host's rules right now."""

    code = "busy"


def namespace_inode() -> int:
    """What names the network namespace of the calling thread."""
    return os.stat("/proc/thread-self/ns/net").st_ino


@contextmanager
def lock() -> Iterator[None]:
    """One writer for each network namespace; raises Busy at once."""
    RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = RUN / f"enforce.{namespace_inode()}.lock"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # `remove` takes the file away while it holds it: a lock on what has gone locks nobody out.
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise BlockingIOError
    except OSError:
        os.close(descriptor)
        raise Busy(
            "another netwatch is changing this host's rules", "try again when it has ended"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def legacy_tables(family: int) -> frozenset[str]:
    """The legacy tables that exist here; asking iptables-legacy would create them."""
    try:
        names = Path("/proc/thread-self/net", _NAMES[family]).read_text()
    except OSError:
        return frozenset()
    return frozenset(names.split())


def saved(backend: str, family: int, *, counters: bool = False) -> str:
    """The filter table as `iptables-save` prints it; empty where a legacy one does not exist."""
    if backend == LEGACY and "filter" not in legacy_tables(family):
        return ""
    more = ["-c"] if counters else []
    return commands.check([f"{PROGRAM[family]}-{backend}-save", "-t", "filter", *more])


def find_backend(choice: str) -> str:
    """`nft` or `legacy`: as chosen, else where our chains or the runtime's are."""
    need_programs()
    if choice in (NFT, LEGACY):
        return choice
    texts = {backend: saved(backend, 4) for backend in (NFT, LEGACY)}
    for sign in (f":{CHAINS}", ":DOCKER"):
        for backend, text in texts.items():
            if sign in text:
                return backend
    return NFT if "nf_tables" in commands.run(["iptables", "-V"]).out else LEGACY


def need_programs() -> None:
    """Raise CommandMissing with the remedy before anything is changed."""
    for program in ("iptables", "ip6tables", "iptables-save", "ipset"):
        if not commands.available(program):
            raise commands.CommandMissing(
                f"the program {program} is not installed",
                f"install it: apt-get install {commands.package_of(program)}",
            )


def read(backend: str) -> Actual:
    """Chains, jumps and sets of ours as they are now."""
    chains: dict[tuple[int, str], tuple[str, ...]] = {}
    texts: dict[tuple[int, str], tuple[str, ...]] = {}
    with ThreadPoolExecutor() as pool:  # its threads begin in this thread's network namespace
        asked = [(family, pool.submit(saved, backend, family)) for family in FAMILIES]
        sets, guard = read_sets(), read_guard()
    for family, answer in asked:
        for name, lines in _parse(answer.result()).items():
            chains[family, name] = tuple(_mark(line) for line in lines)
            texts[family, name] = tuple(lines)
    return Actual(chains, sets, texts, guard)


def _parse(text: str) -> dict[str, list[str]]:
    """The rules of our chains and of those that lead to them."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith(":"):
            found[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            found.setdefault(line.split(" ", 2)[1], []).append(line)
    return {
        name: lines
        for name, lines in found.items()
        if name.startswith(CHAINS) or name in (*HOOKS, DOCKER_USER)
    }


def _mark(line: str) -> str:
    found = _MARK.search(line)
    return found.group(1) if found else ""


def carry_out(plan: Plan, backend: str, *, writer: Writer | None = None) -> None:
    """Do what the plan says, in its order; `writer` None: the one that the settings name.

    Raises NotApplied: with the rules from before in force if the kernel takes the new ones not at
    all. Should it refuse a later step, then what old and new rules both forbid stays forbidden.
    """
    first, rest = _first_adds(plan)
    begun = False
    if plan.rules:  # a container's start changes members only: it waits for no file of settings
        writer = writer or writer_of(backend, load().writer)
    try:
        restore_sets(first)
        if writer is not None:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda each: writer.restore(*each, check_only=True), _tests(plan)))
        for step in rest:
            begun = True
            if step.family is None:
                restore_sets(step.lines)
            elif writer is not None:
                writer.restore(step.family, step.lines, check_only=False)
        if plan.guard is not None:
            write_guard(plan.guard)
    except (commands.CommandFailed, NotApplied) as error:
        if begun:
            raise NotApplied(
                f"the kernel did not take a part of the change: {error.message}",
                "what old and new rules both forbid is still forbidden; apply again",
            ) from None
        with suppress(NotApplied):  # what was not added can not be taken back
            restore_sets(tuple(_undo(first)))
        raise NotApplied(
            f"the kernel did not take the rules, those from before stay in force: {error.message}",
            error.hint or "see netwatch doctor; nothing that was permitted has changed",
        ) from None


def take_away() -> bool:
    """Every rule and set of ours out of the caller's namespace, of both backends; whether there
    were any. Sets go last: rules of either backend may ask for them.
    """
    found = False
    left: tuple[str, ...] = ()
    for backend in (NFT, LEGACY):
        change = plan_of(NOTHING, read(backend))
        found = found or not change.empty
        rules = tuple(step for step in change.steps if step.family is not None)
        carry_out(Plan(rules, guard=change.guard), backend)
        left = tuple(line for step in change.steps if step.family is None for line in step.lines)
    restore_sets(left)
    return found


def _tests(plan: Plan) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each step's rules, by family, so that they can be tried before any other step is done.

    iptables-legacy looks for the chains that a rule jumps to even when it only tests, so a later
    step declares those that an earlier one makes.
    """
    made: dict[int, dict[str, None]] = {4: {}, 6: {}}
    for family, (table, *lines) in plan.rules:
        declared = dict.fromkeys(line for line in lines if line.startswith(":"))
        earlier = (line for line in made[family] if line not in declared)
        yield family, (table, *earlier, *lines)
        made[family] |= declared


def _first_adds(plan: Plan) -> tuple[tuple[str, ...], tuple[Step, ...]]:
    """What the rules need and what can be taken back, and the steps that follow."""
    if plan.steps and plan.steps[0].family is None:
        lines = plan.steps[0].lines
        if all(line.startswith(("create ", "add ")) for line in lines):
            return lines, plan.steps[1:]
    return (), plan.steps


def _undo(lines: tuple[str, ...]) -> Iterator[str]:
    """What takes back lines that create sets and add members."""
    for line in reversed(lines):
        verb, title, rest = line.split(" ", 2)
        yield f"destroy {title}" if verb == "create" else f"del {title} {rest}"


def sysctls() -> dict[str, str]:
    """The switches that make bridged packets visible to iptables; empty without br_netfilter."""
    found = {}
    for name in _SYSCTLS:
        try:
            found[name] = (_BRIDGE / name).read_text().strip()
        except OSError:
            continue
    return found


def bridges_seen() -> bool:
    """Whether packets within a bridge pass iptables here, or can be made to."""
    found = sysctls()
    return bool(found) and all(
        value == "1" or os.access(_BRIDGE / name, os.W_OK) for name, value in found.items()
    )


def is_bare(text: str) -> bool:
    """Whether a table holds nothing but empty built-in chains that accept."""
    lines = [line for line in text.splitlines() if line[:1] in (":", "-")]
    built_in = tuple(f":{hook} ACCEPT" for hook in HOOKS)
    return all(line.startswith(built_in) for line in lines)


def set_sysctl(name: str, value: str) -> None:
    """Set one of `sysctls`; raises NetwatchError where the host does not let us."""
    if name not in _SYSCTLS or value not in ("0", "1"):
        raise NetwatchError(f"{name} is no switch of ours")
    try:
        (_BRIDGE / name).write_text(value)
    except OSError as error:
        raise NetwatchError(f"can not set net.bridge.{name}: {error.strerror}") from None

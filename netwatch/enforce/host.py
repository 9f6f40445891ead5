"""One host's enforcement, beginning to end: preview, apply, verify, remove, what is applied.

What is applied is remembered under /run/netwatch by network namespace: the documents' text, so
that an agent can name verdicts, and what the host was like before, so that it is left that way.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from msgspec import structs

from netwatch.enforce import (
    bridging,
    closures,
    counters,
    draining,
    gate,
    indoors,
    kernel,
    netlink,
    sessions,
    sockets,
    standing,
)
from netwatch.enforce.begun import lenient
from netwatch.enforce.compile import compile
from netwatch.enforce.ends import host_addresses
from netwatch.enforce.linklocal import with_link_local
from netwatch.enforce.plan import CHAINS, Actual, Plan, plan
from netwatch.enforce.ruleset import FAMILIES, HOOKS, Ruleset
from netwatch.enforce.sets import NotApplied
from netwatch.enforce.sockets import Talk
from netwatch.kernel.namespaces import inside
from netwatch.model.errors import NetwatchError
from netwatch.model.policy_version import NO_DOCUMENTS, digest_of
from netwatch.model.snapshot import Snapshot
from netwatch.policy.files import policy_files, read_policies, read_text
from netwatch.policy.ir import Policy

UNGUARDED = "workloads can forge addresses here: the kernel lacks nftables for bridges"
MAX_REPAIRS = 3  # a first apply may meet a runtime that writes at the same moment


class _Before(msgspec.Struct, frozen=True):
    """What the host was like before anything of ours was there."""

    tables: tuple[str, ...] = ()
    sysctls: dict[str, str] = {}
    hooks: tuple[str, ...] | None = None


class _State(msgspec.Struct, frozen=True):
    backend: str
    digest: str
    at: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` last put into the kernel of a network namespace; `at` in ns since the epoch.

    `sha256` is the hash of the documents (policy_version.digest_of), computed from what is kept;
    `whole`: it is that of the documents that were applied.
    """

    policies: tuple[Policy, ...]
    digest: str
    backend: str
    at: int
    sha256: str = NO_DOCUMENTS
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be, what would change, and the live sessions that it would forbid."""

    backend: str
    ruleset: Ruleset
    plan: Plan
    forbidden: frozenset[Talk] = frozenset()


def folder() -> Path:
    """Where this network namespace's state is kept."""
    return kernel.RUN / f"enforce.{kernel.namespace_inode()}"


def rooms() -> Path:
    """What remembers the workloads' namespaces that hold rules of ours."""
    return folder() / "indoors.json"


def applied(namespace: Path | None = None) -> Applied | None:
    """What is applied in that network namespace (None: the caller's), or None.

    Raises NetwatchError if what was remembered is damaged.
    """
    return inside(namespace, _applied)


def _applied() -> Applied | None:
    place = folder()
    try:
        state = msgspec.json.decode((place / "state.json").read_bytes(), type=_State)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise NetwatchError(
            f"{place / 'state.json'} is damaged: {error}", "netwatch host remove, then apply again"
        ) from None
    files = policy_files([place / "policies"])
    policies = read_policies(files)
    sha256 = digest_of(read_text(file) for file in files)
    whole = state.sha256 in ("", sha256)
    return Applied(policies, state.digest, state.backend, state.at, sha256, whole)


def heal() -> bool:
    """Replace damaged documents by the copy that outlives a reboot, if it is of what was applied.

    Raises NetwatchError if that copy is damaged too.
    """
    try:
        kept = msgspec.json.decode((folder() / "state.json").read_bytes(), type=_State)
    except (OSError, msgspec.MsgspecError):
        return False
    copy = standing.read()[0].documents or ()
    if digest_of(text for _, text in copy) != kept.sha256:
        return False
    with kernel.lock():
        remember([(suffix, text.encode()) for suffix, text in copy], kept)
    return True


def preview(policies: Sequence[Policy], snapshot: Snapshot, *, backend: str, now: int) -> Preview:
    """What `apply` would do; changes nothing."""
    return _look(policies, _anew(snapshot), backend=backend, now=now)[0]


def _anew(snapshot: Snapshot) -> Snapshot:
    """What other documents closed is not closed by these."""
    return replace(with_link_local(snapshot), closed=())


def _look(
    policies: Sequence[Policy], snapshot: Snapshot, *, backend: str, now: int
) -> tuple[Preview, Actual]:
    """The preview, and what was read from the kernel for it."""
    _refuse_incomplete(snapshot)
    chosen = kernel.find_backend(backend)
    actual = kernel.read(chosen)
    ruleset = _noted(compile(policies, snapshot, now=now), snapshot, actual)
    begun = lenient(ruleset, policies, snapshot, now=now)
    own = host_addresses(snapshot)
    found = {s.talk for s in sessions.forbidden(begun, own, either_way=actual.fresh)}
    if actual.fresh and ruleset.enforcing:
        live = sockets.talks(snapshot.workloads)
        found |= live.difference(sockets.permitted(begun, live, own))
    found |= indoors.forbidden(begun, snapshot)
    return Preview(chosen, ruleset, plan(ruleset, actual), frozenset(found)), actual


def apply(
    files: Sequence[Path], snapshot: Snapshot, *, backend: str, now: int, drain: bool = False
) -> Preview:
    """Give these policies force; returns once they were read back from the kernel.

    Live sessions that they forbid are cut, or left to end by themselves (`drain`).
    Raises NotApplied (the rules from before stay), Busy, CapReached, CommandMissing, and
    InvalidDocument or NetwatchError `off` before anything is touched.
    """
    policies = read_policies(files)
    texts = [(file.suffix, file.read_bytes()) for file in policy_files(files)]
    if files:
        standing.refuse_off()
    with kernel.lock():
        snapshot = _anew(snapshot)
        seen, actual = _look(policies, snapshot, backend=backend, now=now)
        _leave_other_backend(seen.backend)
        remember_before()
        bridging.see(snapshot, enforcing=seen.ruleset.enforcing)
        fresh, host = actual.fresh, host_addresses(snapshot)
        begun = lenient(seen.ruleset, policies, snapshot, now=now)
        spared = seen.forbidden if drain else frozenset[Talk]()
        draining.spare(spared)
        if fresh and seen.ruleset.enforcing:
            # conntrack watches before anything is denied
            actual = _converge(compile((), snapshot, now=now), seen.backend, actual)
            live = sockets.talks(snapshot.workloads)
            for talk in (*sockets.permitted(begun, live, host), *spared & live):
                sockets.adopt(talk)
        _converge(seen.ruleset, seen.backend, actual)
        indoors.settle(seen.ruleset, snapshot, seen.backend, record=rooms(), now=now, begun=begun)
        found = draining.doomed(sessions.forbidden(begun, host, either_way=fresh))
        over = {session.talk for session in found}
        sockets.end(over | (seen.forbidden - spared), snapshot.workloads)
        for session in found:
            sessions.cut(session)
        remember(texts, _State(seen.backend, seen.ruleset.digest, now))
        closures.keep(closures.bridges_of(seen.ruleset))
        gate.open_gate()
        told = stand() or standing.keep(closed=gate.bridges_to_close(seen.ruleset, snapshot))
    ruleset = _told(seen.ruleset, told)
    return replace(seen, ruleset=ruleset, forbidden=seen.forbidden | over)


def stand() -> str | None:
    """Let what is applied come back after a reboot; a sentence if the disk does not take it.

    Not while it waits for its confirmation, and not while the host is switched off.
    """
    place = folder()
    if standing.is_off() or place.with_name(f"{place.name}.pending").exists():
        return None
    state = _applied()
    texts = [(file.suffix, file.read_bytes()) for file in policy_files([place / "policies"])]
    if state is None or not texts:
        return standing.forget()
    return standing.keep(documents=(texts, state.backend, state.at))


def bring_back(texts: Sequence[tuple[str, bytes]], *, backend: str, at: int) -> None:
    """Say that these documents are applied, as before a reboot; the next look gives them force."""
    with kernel.lock():
        remember_before()
        remember(texts, _State(kernel.find_backend(backend), "", at))


def _told(ruleset: Ruleset, note: str | None) -> Ruleset:
    notes = (*ruleset.facts.notes, note) if note else ruleset.facts.notes
    return replace(ruleset, facts=replace(ruleset.facts, notes=notes))


def _noted(ruleset: Ruleset, snapshot: Snapshot, actual: Actual) -> Ruleset:
    """With what only this host's kernel can tell."""
    unguarded = (UNGUARDED,) if ruleset.guard and not actual.guard.able else ()
    notes = (*ruleset.facts.notes, *indoors.remarks(ruleset, snapshot), *unguarded)
    return replace(ruleset, facts=replace(ruleset.facts, notes=notes))


def _refuse_incomplete(snapshot: Snapshot) -> None:
    if snapshot.problem:
        raise NetwatchError(
            f"the workloads of this host are not known: {snapshot.problem}",
            "nothing was changed; see netwatch doctor",
        )


def _converge(ruleset: Ruleset, backend: str, actual: Actual) -> Actual:
    """Change what differs and read it back, until nothing does; what was read last."""
    left = plan(ruleset, actual)
    for _ in range(MAX_REPAIRS):
        if not left.empty:
            counters.bank(left, backend, folder())
            kernel.carry_out(left, backend)
        actual = kernel.read(backend)
        left = plan(ruleset, actual)
        if left.empty:
            return actual
    raise NotApplied(
        f"what was read back differs: {left.drift[0]}",
        "another program changes the rules at the same time; see netwatch host verify",
    )


def _leave_other_backend(backend: str) -> None:
    """Rules of ours in the other backend would go on dropping, unseen."""
    other = kernel.LEGACY if backend == kernel.NFT else kernel.NFT
    if any(f":{CHAINS}" in kernel.saved(other, family) for family in FAMILIES):
        raise NetwatchError(
            f"rules of netwatch are in iptables-{other}, but {backend} was chosen",
            "netwatch host remove, then apply again",
        )


def remember_before() -> None:
    """Keep what the host is like before anything of ours is there, once."""
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (place / "before.json").exists():
        tables, hooks = sorted(netlink.nft_tables()), sorted(netlink.nft_hooks())
        before = _Before(tuple(tables), kernel.sysctls(), tuple(hooks))
        _write(place / "before.json", msgspec.json.encode(before))


def remember(texts: Sequence[tuple[str, bytes]], state: _State) -> None:
    """Keep what is applied, for whoever keeps it true."""
    place = folder()
    fresh, current = place / "policies.new", place / "policies"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    for number, (suffix, text) in enumerate(texts):
        (fresh / f"{number:04d}{suffix}").write_bytes(text)
    shutil.rmtree(current, ignore_errors=True)
    fresh.rename(current)
    told = digest_of(text.decode("utf-8-sig") for _, text in texts)
    _write(place / "state.json", msgspec.json.encode(structs.replace(state, sha256=told)))


def damage() -> tuple[str, ...]:
    """What of the remembered is not as `apply` left it, in sentences; an agent repairs from it."""
    place, state = folder(), _applied()
    if state is None:
        return ()
    found = []
    if not state.whole:
        found.append(f"the documents in {place / 'policies'} are not those that were applied")
    if not (place / "before.json").exists():
        found.append(f"{place / 'before.json'} is gone: removing can not restore the host")
    return tuple(found)


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(path)


def verify(
    snapshot: Snapshot, *, now: int, policies: Sequence[Policy] | None = None
) -> tuple[str, ...]:
    """What differs between the kernel and what is applied (or these policies), in sentences.

    The comparison is with the workloads as they are now. Raises NetwatchError if nothing was
    applied here.
    """
    _refuse_incomplete(snapshot)
    state = _applied()
    if state is None:
        raise NetwatchError("nothing is applied on this host", "netwatch host apply --policies …")
    chosen = state.policies if policies is None else policies
    snapshot = with_link_local(snapshot)
    ruleset = compile(chosen, snapshot, now=now)
    drift = list(plan(ruleset, kernel.read(state.backend)).drift)
    drift += indoors.differences(ruleset, snapshot, state.backend)
    drift += bridging.unseen(snapshot, enforcing=ruleset.enforcing).values()
    return tuple(drift)


def remove(*, for_good: bool = True) -> bool:
    """Leave the host as it was; True if there was anything. Needs no policies, runs twice well.

    `for_good`: and forget what would come back after a reboot.
    """
    kernel.need_programs()
    with kernel.lock():
        found = gate.is_shut()
        gate.open_gate()
        if for_good:
            standing.forget()
        found = kernel.take_away() or found
        place = folder()
        found = indoors.leave(rooms()) or found or place.exists()
        _restore_before(place)
        shutil.rmtree(place, ignore_errors=True)
        for beside in kernel.RUN.glob(f"{place.name}.*"):  # what waits for confirmation, the lock
            if beside.is_dir():
                shutil.rmtree(beside, ignore_errors=True)
            else:
                beside.unlink(missing_ok=True)
    return found


def _restore_before(place: Path) -> None:
    try:
        before = msgspec.json.decode((place / "before.json").read_bytes(), type=_Before)
    except (FileNotFoundError, msgspec.MsgspecError):
        return
    for name, value in before.sysctls.items():
        if kernel.sysctls().get(name) not in (None, value):
            kernel.set_sysctl(name, value)
    made = netlink.nft_hooks() - set(before.hooks) if before.hooks is not None else set()
    for family, title in ((4, "ip filter"), (6, "ip6 filter")):
        made_by_us = title not in before.tables and title in netlink.nft_tables()
        if made_by_us and kernel.is_bare(kernel.saved(kernel.NFT, family)):
            netlink.delete_nft_table(title)
            continue
        for hook in HOOKS:  # iptables makes one with the first rule in it, and leaves it behind
            chain = f"{title} {hook}"
            if chain in made and f":{hook} ACCEPT" in kernel.saved(kernel.NFT, family):
                netlink.delete_nft_hook(chain)

"""`netwatch host`: give policies force on this host, without a controller."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netwatch.cli.output import json_option, print_json, say
from netwatch.cli.trail import audited
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot

if TYPE_CHECKING:
    from netwatch.enforce.host import Preview

F = TypeVar("F", bound=Callable[..., Any])
MAX_TOLD = 20  # lines of one kind for a person; JSON has all


def policies_option(function: F) -> F:
    """`--policies PATH`, which may be repeated."""
    return click.option(
        "--policies",
        "paths",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A file or folder of policies; may be repeated.",
    )(function)


def backend_option(function: F) -> F:
    """`--backend`: which iptables holds the rules."""
    return click.option(
        "--backend",
        default="auto",
        type=click.Choice(["auto", "nft", "legacy"]),
        help="Where the rules live; auto: where the container runtime's are.",
    )(function)


@click.group()
def host() -> None:
    """Give policies force on this host, see them there, and take them away."""


def need_root() -> None:
    """Raise where the kernel would refuse every answer, each with other words."""
    if os.geteuid() != 0:
        raise NetwatchError(
            "netwatch host needs root: it reads and writes the kernel's rules",
            "use sudo",
            code="not-root",
        )


def this_host() -> Snapshot:
    """The workloads of this host now; its problem, if any, is the caller's to judge."""
    from netwatch.discover.sources import find_source
    from netwatch.discover.tunnels import read_links, with_protected
    from netwatch.settings import load

    source = find_source(load())
    source.start(lambda: None)
    try:
        return with_protected(source.snapshot(), read_links(time.time_ns()))
    finally:
        source.close()


def guarded_host() -> Snapshot:
    """This host with who is quarantined on it: what rules are made from."""
    from netwatch.enforce.quarantine import marked

    return marked(this_host(), now=time.time_ns())


@host.command()
@policies_option
@backend_option
@json_option
def plan(paths: tuple[Path, ...], backend: str, as_json: bool) -> None:
    """What apply would change; changes nothing."""
    from netwatch.enforce.host import preview
    from netwatch.policy.files import read_policies

    need_root()
    policies = read_policies(paths)
    snapshot = guarded_host()
    seen = preview(policies, snapshot, backend=backend, now=time.time_ns())
    answer = described(seen) | {"host": snapshot.host}
    if as_json:
        print_json(answer)
        return
    tell(answer)


@host.command()
@policies_option
@backend_option
@click.option("--confirm", "confirm_s", type=click.IntRange(1, 3600), help="Roll back after N s.")
@click.option(
    "--sessions",
    default="cut",
    type=click.Choice(["cut", "drain"]),
    help="Live sessions that are now forbidden: ended at once, or left to end by themselves.",
)
@json_option
def apply(
    paths: tuple[Path, ...], backend: str, confirm_s: int | None, sessions: str, as_json: bool
) -> None:
    """Give the policies force; returns once they were read back from the kernel."""
    from netwatch.enforce import confirm, host

    if not paths:
        raise click.UsageError("apply needs --policies PATH; netwatch host remove takes them away")
    need_root()
    confirm.refuse_pending()
    now, drain, there = time.time_ns(), sessions == "drain", guarded_host()
    if confirm_s is None:
        seen = host.apply(paths, there, backend=backend, now=now, drain=drain)
    else:
        seen = confirm.apply(
            paths, there, backend=backend, now=now, seconds=confirm_s, drain=drain
        )
    answer = described(seen, drain=drain) | {"confirm_seconds": confirm_s}
    answer["warnings"] = list(audited("host.apply", _in_short(answer)))
    if as_json:
        print_json(answer)
        return
    tell(answer)
    for warning in answer["warnings"]:
        say(f"note: {warning}")
    say(f"applied and read back ({answer['backend']}, {answer['digest'][:12]})")
    if confirm_s is not None:
        say(f"netwatch host confirm within {confirm_s} s keeps it")


@host.command()
@policies_option
@json_option
def verify(paths: tuple[Path, ...], as_json: bool) -> None:
    """Whether documents, what was remembered and the kernel are one; exit code 3 if not.

    JSON also names edges that are host-granular, exact totals of denials and, where an agent
    counts, rules that were never used.
    """
    from netwatch.cli.verified import tell_verified
    from netwatch.enforce.verify import verify
    from netwatch.policy.files import read_policies

    need_root()
    policies = read_policies(paths) if paths else None
    snapshot = guarded_host()
    found = verify(snapshot, now=time.time_ns(), policies=policies)
    tell_verified(found, snapshot.host, as_json=as_json)


@host.command()
@click.option("--release-all", is_flag=True, help="Set free whoever is quarantined, too.")
@click.option("--keep-quarantine", is_flag=True, help="Take only the policies away.")
@json_option
def remove(release_all: bool, keep_quarantine: bool, as_json: bool) -> None:
    """Take everything away and leave the host as it was.

    Refuses while somebody is quarantined, unless one of the two options says what is meant.
    """
    from netwatch.enforce import quarantine

    if release_all and keep_quarantine:
        raise click.UsageError("--release-all and --keep-quarantine exclude each other")
    need_root()
    if keep_quarantine and quarantine.quarantined():
        quarantine.enforce_only([], this_host(), backend="auto", now=time.time_ns())
        found = True
    else:
        found = quarantine.remove(release_all=release_all)
    facts = {"removed": found, "release_all": release_all}
    warnings = audited("host.remove", facts) if found else ()
    if as_json:
        print_json({"ok": True, "removed": found, "warnings": list(warnings)})
        return
    for warning in warnings:
        say(f"note: {warning}")
    say("removed" if found else "there was nothing to remove")


@host.command()
@json_option
def confirm(as_json: bool) -> None:
    """Keep what was applied with --confirm."""
    from netwatch.enforce import confirm as confirmation

    need_root()
    confirmation.confirm()
    warnings = audited("host.confirm", {})
    if as_json:
        print_json({"ok": True, "warnings": list(warnings)})
        return
    for warning in warnings:
        say(f"note: {warning}")
    say("confirmed")


@host.command()
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C; else for --seconds.")
@click.option("--seconds", default=5.0, type=click.FloatRange(0.1, 3600), help="How long: 5.")
@click.option("--totals", is_flag=True, help="Only the exact totals; beside an agent, too.")
@json_option
def denials(follow: bool, seconds: float, totals: bool, as_json: bool) -> None:
    """What the rules of this host refuse while we listen, and by which document.

    What is heard is a sample; the totals at the end are exact. Only where no agent runs: one
    program hears the kernel's log, and an agent reports it.
    """
    from netwatch.cli.denials import listen, tell_totals

    need_root()
    if totals:
        tell_totals(as_json=as_json)
        return
    listen(None if follow else seconds, as_json=as_json)


@host.command()
@click.option(
    "--before-runtime", is_flag=True, help="Ask no runtime: shut what was closed, for boot."
)
@json_option
def restore(before_runtime: bool, as_json: bool) -> None:
    """After a reboot: give force again to what was applied, and to who was quarantined.

    Nothing where something is applied already, or nothing was. With --before-runtime nothing
    passes the bridges that were closed until an agent, or a second restore, knows the workloads.
    """
    from netwatch.enforce.reboot import restore as restored
    from netwatch.settings import load

    need_root()
    seen = Snapshot(load().host, problem="no runtime was asked") if before_runtime else this_host()
    done = restored(seen, now=time.time_ns())
    if as_json:
        print_json(
            {
                "ok": True,
                "documents": done.documents,
                "quarantined": list(done.quarantined),
                "shut": list(done.shut),
                "problem": done.problem,
            }
        )
        return
    if done.problem:
        say(f"note: {done.problem}")
    say(f"{done.documents} documents and {len(done.quarantined)} quarantined are in force again")
    for bridge in done.shut:
        say(f"shut until the workloads are known: {bridge}")


@host.command(hidden=True)
@click.argument("token")
@click.argument("seconds", type=int)
def rollback(token: str, seconds: int) -> None:
    """The separate process that waits for `confirm` and undoes what it did not confirm."""
    from netwatch.enforce import confirm as confirmation

    if not confirmation.pending():  # confirmed or removed before this process began
        return
    # Whoever reads the output of apply must not wait for this process too.
    with confirmation.complaints() as file:
        os.dup2(file.fileno(), 2)
    time.sleep(seconds)
    if confirmation.roll_back(token, this_host, now=time.time_ns()):
        for warning in audited("host.rollback", {"confirm_seconds": seconds}):
            say(f"note: {warning}")


def described(seen: Preview, *, drain: bool = False) -> dict[str, Any]:
    """A preview as JSON: edges and rules that change, and what people must know."""
    forbidden = sorted({str(talk) for talk in seen.forbidden})
    facts = seen.ruleset.facts
    names = dict(facts.names)
    lines = (*seen.plan.before, *seen.plan.after)
    edges = {verb: _edges(lines, verb, names) for verb in ("add", "del")}
    return {
        "ok": True,
        "backend": seen.backend,
        "digest": seen.ruleset.digest,
        "enforced": list(facts.documents),
        "staged": list(facts.staged),
        "unchanged": seen.plan.empty,
        "edges": {"added": edges["add"], "removed": edges["del"]},
        "wide_edges": list(facts.wide),
        "members": _counts(lines),
        "rules": {f"ipv{family}": len(text) for family, text in seen.plan.rules},
        "changes": list(seen.plan.drift),
        "fail_closed": list(facts.fail_closed),
        "host_granular": list(facts.host_granular),
        "sessions_cut": [] if drain else forbidden,
        "sessions_left": forbidden if drain else [],
        "notes": list(facts.notes),
    }


def _in_short(answer: dict[str, Any]) -> dict[str, str | int | bool | None]:
    """What the audit trail keeps of a change."""
    return {
        "digest": answer["digest"],
        "backend": answer["backend"],
        "enforced": " ".join(answer["enforced"]),
        "staged": " ".join(answer["staged"]),
        "edges_added": len(answer["edges"]["added"]),
        "edges_removed": len(answer["edges"]["removed"]),
        "sessions_cut": len(answer["sessions_cut"]),
        "sessions_left": len(answer["sessions_left"]),
        "confirm_seconds": answer["confirm_seconds"],
    }


def _edges(lines: Sequence[str], verb: str, names: dict[str, str]) -> list[str]:
    found = set()
    for line in lines:
        word, _, rest = line.partition(" ")
        title, _, member = rest.partition(" ")
        if word == verb and title in ("nw-edge4", "nw-edge6"):
            source, port, destination = member.split(",")
            ends = names.get(source, source), names.get(destination, destination)
            found.add(f"{ends[0]} -> {ends[1]} {port.replace(':', '/')}")
    return sorted(found)


def _counts(lines: Sequence[str]) -> dict[str, int]:
    counted = Counter(line.split(" ", 1)[0] for line in lines)
    return {"added": counted["add"], "removed": counted["del"], "sets": counted["create"]}


def tell(answer: dict[str, Any]) -> None:
    """The same for a person."""
    told = (
        ("edge added", answer["edges"]["added"]),
        ("edge removed", answer["edges"]["removed"]),
        ("edge of many ports", answer["wide_edges"]),
        ("fail-closed network", answer["fail_closed"]),
        ("host-granular edge", answer["host_granular"]),
        ("session that is cut", answer["sessions_cut"]),
        ("session that is left to end by itself", answer["sessions_left"]),
        ("note", answer["notes"]),
    )
    for title, lines in told:
        for line in lines[:MAX_TOLD]:
            say(f"{title}: {line}")
        if len(lines) > MAX_TOLD:
            say(f"{title}: and {len(lines) - MAX_TOLD} more")
    if answer["unchanged"]:
        say("the kernel holds this already")
    else:
        members = answer["members"]
        say(f"members: {members['added']} added, {members['removed']} removed")

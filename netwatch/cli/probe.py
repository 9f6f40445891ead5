"""`netwatch probe`: an active segmentation test, out of the workloads' own network namespaces."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netwatch.cli.host import MAX_TOLD, need_root, policies_option, this_host
from netwatch.cli.output import json_option, print_json, say, table
from netwatch.model.errors import NetwatchError, UsageError, Violations

if TYPE_CHECKING:
    from netwatch.enforce.probe import Answer, Planner, Question, Verdict
    from netwatch.model.snapshot import Snapshot
    from netwatch.policy.ir import Party, Policy, PortSpec, World

KINDS = ("agree", "false-allow", "false-deny", "unproven")


@dataclass(frozen=True, slots=True)
class Row:
    """One call that was tried."""

    question: Question
    answer: Answer
    verdict: Verdict


@click.command()
@click.option("--from", "source", default="", metavar="SEL", help="Default: every workload here.")
@click.option("--to", "target", default="", metavar="SEL", help="Default: every workload known.")
@policies_option
@click.option("--port", "ports", multiple=True, help="80, 53/udp, https; may be repeated.")
@click.option("--family", type=click.Choice(["4", "6"]), help="Default: both.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.05, 30),
    default=1.0,
    show_default=True,
    help="Seconds until silence means filtered.",
)
@json_option
def probe(
    source: str,
    target: str,
    paths: tuple[Path, ...],
    ports: tuple[str, ...],
    family: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Try who reaches whom, and compare with what the policies say; exit code 3 if they differ.

    SEL is a name, namespace/name, labels (app=web, tier in (a, b)), either of them `in NAMESPACE`,
    host, or an address. Without --port: documented and listening ports, and one that is closed.
    Policies: --policies, else those in force on this host. At most 2,000 calls are tried.
    """
    from netwatch.enforce import trial
    from netwatch.enforce.probe import MAX_QUESTIONS, judged, spread

    need_root()
    snapshot = _known_host()
    policies = _policies(paths)
    planner = _planner(policies, snapshot)
    families = (int(family),) if family else (4, 6)
    froms, tos = _ends(planner, snapshot, source, target)
    asked = list(planner.questions(froms, tos, ports=_specs(ports), families=families))
    if not asked:
        raise UsageError(
            "there is nothing to try between them",
            "an address, the host, or a workload without documented ports needs --port",
        )
    chosen = spread(asked)
    rows = [Row(q, a, judged(q, a)) for q, a in trial.tried(chosen, timeout_s=timeout)]
    counts = Counter(row.verdict.kind for row in rows)
    wrong = counts["false-allow"] + counts["false-deny"]
    if as_json:
        print_json(
            {
                "ok": not wrong,
                "host": snapshot.host,
                "documents": [policy.title for policy in policies],
                "counts": {kind: counts[kind] for kind in KINDS},
                "limit": MAX_QUESTIONS,
                "left_out": len(asked) - len(chosen),
                "probes": [_as_json(row, snapshot) for row in rows],
            }
        )
        if wrong:
            raise click.exceptions.Exit(Violations.exit_code)
        return
    _tell(rows, snapshot)
    if len(asked) > len(chosen):
        say(f"{len(chosen)} of {len(asked)} calls were tried, evenly: narrow it with --from, --to")
    say(", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    if wrong:
        raise Violations(
            f"kernel and policies disagree in {wrong} of {len(rows)} calls",
            "netwatch host verify tells what differs in the rules, if it is the rules",
        )


def _known_host() -> Snapshot:
    from netwatch.enforce.quarantine import marked

    snapshot = marked(this_host(), now=time.time_ns())
    if snapshot.problem:
        raise NetwatchError(
            f"the workloads of this host are not known: {snapshot.problem}", "see netwatch doctor"
        )
    return snapshot


def _policies(paths: Sequence[Path]) -> tuple[Policy, ...]:
    """Those that are named, else those in force."""
    from netwatch.enforce import host
    from netwatch.policy.files import read_policies

    if paths:
        return read_policies(paths)
    state = host.applied()
    if state is None:
        say("no policy is in force on this host: every call is expected to get through")
    return state.policies if state else ()


def _planner(policies: Sequence[Policy], snapshot: Snapshot) -> Planner:
    from netwatch.agent.listeners import listening
    from netwatch.enforce.probe import Planner

    heard = {w.identity: listening(w.pid) for w in snapshot.workloads if w.pid is not None}
    return Planner(policies, snapshot, heard, now=time.time_ns())


def _ends(
    planner: Planner, snapshot: Snapshot, source: str, target: str
) -> tuple[list[Party], list[Party]]:
    """Who is tried from, and towards whom; raises UsageError where that is nobody."""
    from netwatch.enforce.ends import world_of

    world = world_of(snapshot)
    froms = planner.sources(_selected(source, world, "--from"))
    tos = _selected(target, world, "--to")
    if not froms:
        raise UsageError(
            f"no workload of this host is meant by --from {source[:60]!r}",
            "a probe starts inside a running workload of this host, or from host",
        )
    if not tos:
        raise UsageError(f"nobody is meant by --to {target[:60]!r}", "see netwatch workloads")
    return froms, tos


def _selected(words: str, world: World, option: str) -> list[Party]:
    from netwatch.policy.ir import Place
    from netwatch.policy.words import parties

    return parties(words, world, Place(option, 1, 1))


def _specs(texts: Sequence[str]) -> tuple[PortSpec, ...]:
    from netwatch.enforce.probe import single_ports
    from netwatch.policy.ir import Place
    from netwatch.policy.nodes import Kind, Node
    from netwatch.policy.short import read_ports

    place = Place("--port", 1, 1)
    return single_ports(s for t in texts for s in read_ports(Node(Kind.TEXT, place, text=t)))


def _as_json(row: Row, snapshot: Snapshot) -> dict[str, Any]:
    from netwatch.enforce.probe import peer_name

    name = peer_name(snapshot)
    question, decided = row.question, row.question.expected
    place = decided.rule.place if decided.rule else decided.policy and decided.policy.place
    return {
        "source": name(question.source),
        "destination": name(question.destination),
        "protocol": question.protocol,
        "port": question.port,
        "address": question.aim[0],
        "address_port": question.aim[1],
        "expected": decided.verdict,
        "reason": decided.reason,
        "document": decided.policy.title if decided.policy else None,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "result": row.answer.result,
        "ms": row.answer.ms,
        "verdict": row.verdict.kind,
        "why": row.verdict.why,
    }


def _tell(rows: Sequence[Row], snapshot: Snapshot) -> None:
    """Disagreements first, then what proves nothing; JSON has all."""
    told = [row for kind in KINDS[1:] for row in rows if row.verdict.kind == kind]
    if not told:
        return
    lines = []
    for row in told[:MAX_TOLD]:
        each = _as_json(row, snapshot)
        what = f"{each['port']}/{each['protocol']} at {each['address']}"
        ends = each["source"], each["destination"]
        why = row.verdict.why or each["reason"]
        lines.append((row.verdict.kind, *ends, what, each["expected"], each["result"], why))
    headings = ("VERDICT", "SOURCE", "DESTINATION", "PORT", "EXPECTED", "RESULT", "REASON")
    click.echo(table(headings, lines))
    if len(told) > MAX_TOLD:
        click.echo(f"and {len(told) - MAX_TOLD} more; --json has all")

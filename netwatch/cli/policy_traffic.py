"""`netwatch policy replay` and `learn`: policies and what was seen."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from netwatch.cli import policy_inputs as inputs
from netwatch.cli.output import json_option, print_json, printable, say, table
from netwatch.cli.policy_answers import rule_json, write_report
from netwatch.model.errors import InvalidDocument, NetwatchError, UsageError, Violations
from netwatch.model.times import rfc3339
from netwatch.policy.document import parse
from netwatch.policy.evidence import Evidence, Reader, suspects
from netwatch.policy.fields import meant
from netwatch.policy.files import read_policies
from netwatch.policy.ir import Party, World
from netwatch.policy.judgement import title
from netwatch.policy.learn import Learned
from netwatch.policy.learn import learn as learned
from netwatch.policy.replay import CHANGED, Row
from netwatch.policy.replay import replay as replayed
from netwatch.policy.writing import as_text, rule_line

F = TypeVar("F", bound=Callable[..., Any])


def evidence_options(function: F) -> F:
    """`--flows`, `--since` and `--until`."""
    for option in (
        click.option("--until", metavar="TIME", help="Of the controller's edges, RFC 3339."),
        click.option("--since", metavar="TIME", help="Of the controller's edges, RFC 3339."),
        click.option(
            "--flows",
            "files",
            multiple=True,
            type=click.Path(path_type=Path),
            help="What `read`, `flows` or `edges` printed with --json; may be repeated. Default:"
            " the edges of the running controller.",
        ),
    ):
        function = option(function)
    return function


def read_evidence(
    world: World, files: Sequence[Path], since: str | None, until: str | None
) -> tuple[Evidence, frozenset[str]]:
    """What was seen, and the ids of edges under open alerts (known of a controller only)."""
    reader = Reader(world)
    if files:
        for file in files:
            try:
                with file.open("rb") as stream:
                    reader.read(stream, str(file))
            except OSError as error:
                raise InvalidDocument(
                    f"the flows can not be read: {error.strerror}",
                    "check the path",
                    file=str(file),
                ) from None
        return reader.evidence(), frozenset()
    source = inputs.controller()
    if source is None:
        raise NetwatchError(
            "nothing was seen: no file is named and no controller is known",
            "add --flows FILE, or start `netwatch up`",
        )
    edges = inputs.everything(source, "edges", since=since, until=until)
    reader.read([json.dumps({"edges": edges})], source.url)
    return reader.evidence(), suspects(inputs.everything(source, "alerts"))


@click.command()
@inputs.PATHS
@inputs.WORLD
@evidence_options
@click.option(
    "--before",
    "old",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Policies in force then; default: the verdict recorded with each flow.",
)
@click.option("--all", "everything", is_flag=True, help="Show calls whose verdict stays, too.")
@json_option
def replay(
    paths: Sequence[Path],
    world_file: Path | None,
    files: Sequence[Path],
    since: str | None,
    until: str | None,
    old: Sequence[Path],
    everything: bool,
    as_json: bool,
) -> None:
    """What would the draft in PATHS have done to what was seen? Exit 3 if anything breaks."""
    draft = read_policies(paths)
    before = read_policies(old) if old else None
    world = inputs.read_world(world_file)
    evidence, _ = read_evidence(world, files, since, until)
    found = replayed(draft, world, evidence, now=time.time_ns(), before=before)
    shown = [r for r in found.rows if everything or r.outcome in {*CHANGED, "uncertain"}]
    broken = found.counts()["escaped"]
    if as_json:
        print_json(
            {
                "ok": not broken,
                "id": found.id,
                "counts": found.counts(),
                "calls": list(map(_row_json, shown)),
                "breaks": [
                    {
                        "workload": b.name,
                        "calls": b.calls,
                        "connections": b.connections,
                        "first_seen": rfc3339(b.first_seen),
                        "last_seen": rfc3339(b.last_seen),
                    }
                    for b in found.breaks
                ],
                "losses": {"calls-over-limit": found.dropped} if found.dropped else {},
            }
        )
    else:
        if shown:
            headings = ("OUTCOME", "SOURCE", "DESTINATION", "PORT", "CONNS", "LAST", "REASON")
            click.echo(table(headings, map(_cells, shown)))
        for b in found.breaks:
            click.echo(printable(f"{b.name} loses {b.calls} calls, {b.connections} connections"))
        say(f"replay {found.id}: " + ", ".join(f"{n} {o}" for o, n in found.counts().items()))
    sys.exit(Violations.exit_code if broken else 0)


def _cells(row: Row) -> Sequence[object]:
    call = row.call
    what = call.protocol if call.port is None else f"{call.port}/{call.protocol}"
    ends = title(call.source), title(call.destination)
    return row.outcome, *ends, what, call.connections, rfc3339(call.last_seen), row.reason


def end_json(party: Party) -> dict[str, Any]:
    """One end of a call."""
    return {
        "workload": party.workload.identity if party.workload else None,
        "address": party.address,
        "host": party.host,
    }


def _row_json(row: Row) -> dict[str, Any]:
    call = row.call
    return {
        "outcome": row.outcome,
        "source": end_json(call.source),
        "destination": end_json(call.destination),
        "protocol": call.protocol,
        "port": call.port,
        "connections": call.connections,
        "first_seen": rfc3339(call.first_seen),
        "last_seen": rfc3339(call.last_seen),
        "was": row.was,
        "will": row.will,
        "reason": row.reason,
        "rule": rule_json(row.decision.rule) if row.decision.rule else None,
    }


@click.command()
@inputs.WORLD
@evidence_options
@click.option("--project", "projects", multiple=True, help="A namespace; default: every one.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the documents here.")
@json_option
def learn(
    world_file: Path | None,
    files: Sequence[Path],
    since: str | None,
    until: str | None,
    projects: Sequence[str],
    output: Path | None,
    as_json: bool,
) -> None:
    """Propose staged Segments that allow what was seen and nothing else that can be left out."""
    world = inputs.read_world(world_file)
    known = {workload.namespace for workload in world.workloads}
    for project in projects:
        if project not in known:
            raise UsageError(f"no workload is in {project[:60]!r}", meant(project, sorted(known)))
    evidence, alerted = read_evidence(world, files, since, until)
    chosen = frozenset(projects) or None
    found = learned(world, evidence, namespaces=chosen, suspects=alerted)
    text = _document(found)
    if output is not None:
        write_report(output, text)
    if as_json:
        print_json({"ok": True, **_learned_json(found, text)})
        return
    if output is None:
        click.echo(text, nl=False)
    _say_learned(found)


def _document(found: Learned) -> str:
    """The proposal as YAML, read back before anybody sees it."""
    text = as_text(found.policies)
    parse(text, "learned.yaml")
    return f"# Proposed by netwatch policy learn from {len(found.evidence)} calls.\n{text}"


def _say_learned(found: Learned) -> None:
    for proposal in found.proposals:
        if proposal.generalised or proposal.confidence == "low":
            wider = f", generalised to {proposal.generalised}" if proposal.generalised else ""
            line = rule_line(replace(proposal.rule, because=None), ingress=proposal.ingress)
            say(f"{proposal.policy}: {line}: confidence {proposal.confidence}{wider}")
    reasons = Counter(aside.why for aside in found.aside)
    for why, count in sorted(reasons.items()):
        say(f"set aside {count}: {why}")
    coverage = found.coverage
    if coverage.unseen:
        say(f"not seen: {', '.join(coverage.unseen)}")
    if coverage.missing:
        say(f"no evidence from any {', '.join(coverage.missing)}")
    rules = len(found.proposals)
    say(f"{rules} rules from {len(found.evidence)} calls; coverage {coverage.score}")
    say(f"{found.seen} of {found.allows} allowed combinations were seen, {found.ratio:.3f}")


def _learned_json(found: Learned, text: str) -> dict[str, Any]:
    coverage = found.coverage
    return {
        "document": text,
        "rules": [
            {
                "policy": p.policy,
                "rule": rule_line(replace(p.rule, because=None), ingress=p.ingress),
                "evidence": [call.id for call in p.evidence],
                "connections": p.connections,
                "first_seen": rfc3339(min(call.first_seen for call in p.evidence)),
                "last_seen": rfc3339(max(call.last_seen for call in p.evidence)),
                "seen": p.seen,
                "allows": p.allows,
                "generalised": p.generalised,
                "confidence": p.confidence,
            }
            for p in found.proposals
        ],
        "set_aside": [{"call": a.call.id, "why": a.why} for a in found.aside],
        "coverage": {
            "score": coverage.score,
            "workloads": coverage.workloads,
            "unseen": list(coverage.unseen),
            "weekdays": list(coverage.weekdays),
            "missing_weekdays": list(coverage.missing),
        },
        "seen": found.seen,
        "allows": found.allows,
        "ratio": round(found.ratio, 6),
    }

"""`netwatch policy replay` and `learn`: policies and what was seen."""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from netwatch.cli import policy_inputs as inputs
from netwatch.cli.output import json_option, print_json, printable, say, table, write_report
from netwatch.model.errors import InvalidDocument, NetwatchError, UsageError, Violations
from netwatch.model.times import rfc3339
from netwatch.policy.answers import replay_json
from netwatch.policy.document import parse
from netwatch.policy.evidence import Evidence, Reader, outcasts, suspects
from netwatch.policy.fields import meant
from netwatch.policy.files import policy_files, read_policies, read_text
from netwatch.policy.ir import World
from netwatch.policy.learn import Learned
from netwatch.policy.learn import learn as learned
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


@dataclass(frozen=True, slots=True)
class Doubts:
    """Ids of edges under open alerts, and identities of workloads that teach nothing."""

    suspects: frozenset[str] = frozenset()
    outcasts: frozenset[str] = frozenset()


def read_evidence(
    world: World, files: Sequence[Path], since: str | None, until: str | None
) -> tuple[Evidence, Doubts]:
    """What was seen, and what of it teaches nothing (known of a controller only)."""
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
        return reader.evidence(), Doubts()
    source = inputs.controller()
    if source is None:
        raise NetwatchError(
            "nothing was seen: no file is named and no controller is known",
            "add --flows FILE, or start `netwatch up`",
        )
    edges = inputs.everything(source, "edges", since=since, until=until)
    reader.read([json.dumps({"edges": edges})], source.url)
    alerts = inputs.everything(source, "alerts")
    hosts = inputs.everything(source, "hosts")
    quarantined = [name for row in hosts for name in row["enforcement"]["quarantined"]]
    return reader.evidence(), Doubts(suspects(alerts), outcasts(alerts, quarantined, world))


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
    source = None if files or world_file else inputs.controller()
    if source is not None:
        body = {"documents": _texts(paths), "all": everything}
        if old:
            body["before"] = _texts(old)
        given = {"since": since, "until": until}
        query = urllib.parse.urlencode({k: v for k, v in given.items() if v is not None})
        answer = source.post(f"replay?{query}", body)
    else:
        answer = _replayed_here(
            paths, world_file, files, (since, until), old, everything=everything
        )
    broken = answer["counts"]["escaped"]
    if as_json:
        print_json({**answer, "ok": not broken})
    else:
        _say_replayed(answer)
    sys.exit(Violations.exit_code if broken else 0)


def _texts(paths: Sequence[Path]) -> list[dict[str, str]]:
    """The files as they are sent; what is wrong with them is told here, with file and line."""
    read_policies(paths)
    return [{"name": str(file), "text": read_text(file)} for file in policy_files(paths)]


def _replayed_here(
    paths: Sequence[Path],
    world_file: Path | None,
    files: Sequence[Path],
    period: tuple[str | None, str | None],
    old: Sequence[Path],
    *,
    everything: bool,
) -> dict[str, Any]:
    draft = read_policies(paths)
    before = read_policies(old) if old else None
    world = inputs.read_world(world_file)
    evidence, _ = read_evidence(world, files, *period)
    found = replayed(draft, world, evidence, now=time.time_ns(), before=before)
    losses = {"calls-over-limit": found.dropped} if found.dropped else {}
    return {**replay_json(found, everything=everything), "losses": losses}


def _say_replayed(answer: dict[str, Any]) -> None:
    if answer["calls"]:
        headings = ("OUTCOME", "SOURCE", "DESTINATION", "PORT", "CONNS", "LAST", "REASON")
        click.echo(table(headings, map(_cells, answer["calls"])))
    if answer["omitted"]:
        say(f"{answer['omitted']} more calls are counted and not shown")
    for b in answer["breaks"]:
        lost = f"{b['calls']} calls, {b['connections']} connections"
        click.echo(printable(f"{b['workload']} loses {lost}"))
    counts = ", ".join(f"{n} {outcome}" for outcome, n in answer["counts"].items())
    say(f"replay {answer['id']}: {counts}")


def _cells(call: dict[str, Any]) -> Sequence[object]:
    what = call["protocol"] if call["port"] is None else f"{call['port']}/{call['protocol']}"
    ends = _title(call["source"]), _title(call["destination"])
    return call["outcome"], *ends, what, call["connections"], call["last_seen"], call["reason"]


def _title(end: dict[str, Any]) -> Any:
    """namespace/name, an address, or the host."""
    if end["workload"]:
        return str(end["workload"]).partition("/")[2]
    return "the host" if end["host"] else end["address"] or "an unknown address"


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
    evidence, doubts = read_evidence(world, files, since, until)
    chosen = frozenset(projects) or None
    found = learned(
        world, evidence, namespaces=chosen, suspects=doubts.suspects, outcasts=doubts.outcasts
    )
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
    for kind, names in (
        ("not seen", coverage.services),
        ("replicas not seen", coverage.replicas),
        ("jobs not seen, which serve nothing and run now and then", coverage.jobs),
    ):
        if names:
            say(f"{kind}: {', '.join(names)}")
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
            "unseen_services": list(coverage.services),
            "unseen_replicas": list(coverage.replicas),
            "unseen_jobs": list(coverage.jobs),
            "weekdays": list(coverage.weekdays),
            "missing_weekdays": list(coverage.missing),
        },
        "seen": found.seen,
        "allows": found.allows,
        "ratio": round(found.ratio, 6),
    }

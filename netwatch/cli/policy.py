"""`netwatch policy`: documents checked, shown and asked, all by the one meaning of `decide`."""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from netwatch.cli.output import json_option, print_json, printable, say, table
from netwatch.model.errors import InvalidDocument, UsageError, Violations
from netwatch.model.times import rfc3339
from netwatch.policy.evaluate import STAGED, Judge
from netwatch.policy.fields import InvalidPolicies, meant
from netwatch.policy.files import policy_files, read_policies
from netwatch.policy.ir import Decision, Party, Place, Policy, Rule, World
from netwatch.policy.lint import Remark, lint
from netwatch.policy.matrix import matrix as tables
from netwatch.policy.matrix import pair, parse_probe
from netwatch.policy.world import parse_world

_PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
_POLICIES = click.option(
    "--policies",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file or folder of policies; may be repeated.",
)
_WORLD = click.option(
    "--world",
    "world_file",
    required=True,
    type=click.Path(path_type=Path),
    help="A JSON file with namespaces and workloads.",
)


@click.group()
def policy() -> None:
    """Say who may talk to whom, and ask what that means."""


@policy.command()
@_PATHS
@json_option
def check(paths: Sequence[Path], as_json: bool) -> None:
    """Find every error (exit 1) and every doubtful rule (exit 3) in policy files."""
    try:
        policies = read_policies(paths)
    except InvalidPolicies as invalid:
        _fail_check(invalid, as_json=as_json)
    remarks = lint(policies, now=time.time_ns())
    findings = [remark for remark in remarks if remark.severity == "finding"]
    if as_json:
        print_json(
            {
                "ok": not findings,
                "documents": [_document_json(document) for document in policies],
                "findings": [_remark_json(remark) for remark in findings],
                "warnings": [_remark_json(r) for r in remarks if r.severity == "warning"],
            }
        )
        sys.exit(Violations.exit_code if findings else 0)
    for remark in remarks:
        say(f"{remark.place}: {remark.severity}: {remark.message} ({remark.hint})")
    say(f"{len(policies)} documents in {len(policy_files(paths))} files are valid")
    sys.exit(Violations.exit_code if findings else 0)


def _fail_check(invalid: InvalidPolicies, *, as_json: bool) -> None:
    """Print every problem, not the first alone."""
    if as_json:
        problems = [problem.as_json()["error"] for problem in invalid.problems]
        print_json({**invalid.as_json(), "errors": problems})
    for problem in invalid.problems:
        say(f"netwatch: {problem}")
    sys.exit(invalid.exit_code)


@policy.command()
@_PATHS
@json_option
def show(paths: Sequence[Path], as_json: bool) -> None:
    """List documents: whom each governs, in which mode, and what it isolates."""
    policies = read_policies(paths)
    if as_json:
        documents = [_document_json(document) for document in policies]
        print_json({"ok": True, "policies": documents, "next": None, "losses": {}})
        return
    rows = [
        (p.kind, p.namespace or "*", p.name, p.mode, _isolated(p), _governs(p), p.place)
        for p in policies
    ]
    headings = ("KIND", "NAMESPACE", "NAME", "MODE", "ISOLATES", "GOVERNS", "PLACE")
    click.echo(table(headings, rows))


@policy.command()
@_WORLD
@_POLICIES
@click.option("--from", "source", required=True, help="ns/name, an address, or host.")
@click.option("--to", "destination", required=True, help="ns/name, an address, or host.")
@click.option("--port", type=click.IntRange(1, 65535), help="The destination's; none for ICMP.")
@click.option("--protocol", default="tcp", show_default=True, help="tcp, udp, sctp, icmp, …")
@json_option
def decide(
    world_file: Path,
    paths: Sequence[Path],
    source: str,
    destination: str,
    port: int | None,
    protocol: str,
    as_json: bool,
) -> None:
    """May this end reach that one? Prints the verdict, the reason and the deciding rule."""
    world = _read_world(world_file)
    policies = read_policies(paths)
    if port is None and protocol.lower() in ("tcp", "udp", "sctp"):
        raise UsageError(f"{protocol} needs a port", "add --port NUMBER")
    ends = _ends(world, source, destination)
    question = (*ends, protocol.lower(), port)
    now = time.time_ns()
    decision = Judge(policies, world).decide(*question, now=now)
    staged = Judge(policies, world, STAGED).decide(*question, now=now)
    if as_json:
        print_json({"ok": True, **_decision_json(decision), "staged": staged.verdict})
        return
    click.echo(printable(f"{decision.verdict}: {decision.reason}"))
    for obligation in decision.obligations:
        click.echo(printable(f"the connection must be {obligation}"))
    if staged.verdict != decision.verdict:
        click.echo(printable(f"staged: {staged.verdict}: {staged.reason}"))


@policy.command()
@_WORLD
@_POLICIES
@click.option("--probe", "probes", multiple=True, required=True, help="tcp/80, udp/53, …")
@json_option
def matrix(world_file: Path, paths: Sequence[Path], probes: Sequence[str], as_json: bool) -> None:
    """Who reaches whom: 1 allowed, 0 denied, - no such port there. Rows are sources."""
    asked = [parse_probe(probe) for probe in probes]
    world = _read_world(world_file)
    answers = tables(read_policies(paths), world, asked, now=time.time_ns())
    order = [workload.key for workload in world.workloads]
    if as_json:
        rows = [{"probe": str(t.probe), "rows": list(t.rows)} for t in answers]
        print_json({"ok": True, "order": order, "probes": rows})
        return
    for answer in answers:
        lines = zip(order, answer.rows, strict=True)
        click.echo(table((str(answer.probe), "to the same, in this order"), lines))


def _read_world(file: Path) -> World:
    try:
        return parse_world(file.read_text(encoding="utf-8-sig"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidDocument(
            f"the world can not be read: {reason.lower()}", "check the path", file=str(file)
        ) from None


def _ends(world: World, source: str, destination: str) -> tuple[Party, Party]:
    """Both parties; between two workloads with addresses of a family that both have."""
    ends = _party(world, source), _party(world, destination)
    workloads = ends[0].workload, ends[1].workload
    if None not in workloads and ends[0].address is None and ends[1].address is None:
        assert workloads[0] is not None and workloads[1] is not None
        return pair(workloads[0], workloads[1])
    return ends


def _party(world: World, text: str) -> Party:
    """A workload by `namespace/name`, the host, or whoever has the address."""
    if text == "host":
        return Party(host=True)
    for workload in world.workloads:
        if workload.key == text:
            return Party(workload)
    try:
        address = str(ipaddress.ip_address(text))
    except ValueError:
        known = [workload.key for workload in world.workloads]
        raise UsageError(f"nobody is called {text[:60]!r}", meant(text, known[:2000])) from None
    for workload in world.workloads:
        if address in workload.addresses:
            return Party(workload, address)
    return Party(None, address, host=address in world.host_addresses)


def _governs(document: Policy) -> str:
    terms = []
    for requirement in document.subject.requirements:
        values = ", ".join(sorted(requirement.values))
        terms.append(f"{requirement.key} {requirement.operator} ({values})")
    return ", ".join(terms) or "all"


def _isolated(document: Policy) -> str:
    pairs = (("ingress", document.isolates_ingress), ("egress", document.isolates_egress))
    return " ".join(word for word, isolated in pairs if isolated) or "-"


def _place_json(place: Place) -> dict[str, Any]:
    return {"file": place.file, "line": place.line, "column": place.column}


def _document_json(document: Policy) -> dict[str, Any]:
    return {
        "kind": document.kind,
        "namespace": document.namespace,
        "name": document.name,
        "mode": str(document.mode),
        "governs": _governs(document),
        "isolates_ingress": document.isolates_ingress,
        "isolates_egress": document.isolates_egress,
        "rules": len(document.ingress) + len(document.egress),
        **_place_json(document.place),
    }


def _rule_json(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "action": str(rule.action),
        "exception": rule.exception,
        "because": rule.because,
        "owner": rule.owner,
        "ticket": rule.ticket,
        "expires": rfc3339(rule.expires),
        "require": rule.obligation,
        **_place_json(rule.place),
    }


def _decision_json(decision: Decision) -> dict[str, Any]:
    return {
        "verdict": decision.verdict,
        "reason": decision.reason,
        "side": decision.side,
        "isolated": decision.isolated,
        "obligations": list(decision.obligations),
        "policy": _document_json(decision.policy) if decision.policy else None,
        "rule": _rule_json(decision.rule) if decision.rule else None,
    }


def _remark_json(remark: Remark) -> dict[str, Any]:
    return {
        "code": remark.code,
        "message": remark.message,
        "hint": remark.hint,
        **_place_json(remark.place),
    }

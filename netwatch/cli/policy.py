"""`netwatch policy`: documents checked and shown; every other verb has a module of its kind."""

from __future__ import annotations

import importlib
import json
import keyword
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from netwatch import __version__
from netwatch.cli.output import json_option, print_json, printable, say, table, write_report
from netwatch.cli.policy_compose import Deployment, read_deployment
from netwatch.model.errors import InvalidDocument, Violations
from netwatch.policy.answers import document_json, governs, place_json
from netwatch.policy.fields import InvalidPolicies, Problems
from netwatch.policy.files import policy_files, read_policies
from netwatch.policy.ir import Policy
from netwatch.policy.junit import Case, junit
from netwatch.policy.lint import Remark, lint
from netwatch.policy.sarif import sarif

VERBS = {
    "apply": "netwatch.cli.policy_versions",
    "confirm": "netwatch.cli.policy_versions",
    "decide": "netwatch.cli.policy_questions",
    "diff": "netwatch.cli.policy_changes",
    "explain": "netwatch.cli.policy_questions",
    "export": "netwatch.cli.policy_files",
    "fmt": "netwatch.cli.policy_files",
    "import": "netwatch.cli.policy_files",
    "learn": "netwatch.cli.policy_traffic",
    "library": "netwatch.cli.policy_library",
    "matrix": "netwatch.cli.policy_questions",
    "mode": "netwatch.cli.policy_versions",
    "propose": "netwatch.cli.policy_compose",
    "reach": "netwatch.cli.policy_reach",
    "replay": "netwatch.cli.policy_traffic",
    "rollback": "netwatch.cli.policy_versions",
    "schema": "netwatch.cli.policy_files",
    "test": "netwatch.cli.policy_changes",
    "versions": "netwatch.cli.policy_versions",
    "use": "netwatch.cli.policy_library",
}


class _Verbs(click.Group):
    """Imports the module of a verb when the verb is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the order of the alphabet."""
        return sorted({*super().list_commands(ctx), *VERBS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command `verb` of its module is the function of that name, or `import_`."""
        if cmd_name not in VERBS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(VERBS[cmd_name])
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(module, name)
        return command


@click.group(cls=_Verbs)
def policy() -> None:
    """Say who may talk to whom, and ask what that means."""


@policy.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--policies", "more", multiple=True, type=click.Path(path_type=Path), help="As PATHS."
)
@click.option(
    "--compose",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A Compose file whose declared links are held against the policies; may be repeated.",
)
@click.option("--propose", is_flag=True, help="Print what labels netwatch.allow would like.")
@click.option("--sarif", "sarif_file", type=click.Path(path_type=Path), help="Write SARIF here.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write JUnit here.")
@json_option
def check(
    paths: Sequence[Path],
    more: Sequence[Path],
    compose: Sequence[Path],
    propose: bool,
    sarif_file: Path | None,
    junit_file: Path | None,
    as_json: bool,
) -> None:
    """Find every error (exit 1) and every doubtful rule or denied link (exit 3) in files."""
    paths = [*paths, *more]
    if not paths and not compose:
        raise click.UsageError("name PATHS of policies, or --compose FILE")
    try:
        policies, deployment = _read(paths, compose)
    except InvalidPolicies as invalid:
        _report(sarif_file, junit_file, mistakes=invalid.problems)
        _fail_check(invalid, as_json=as_json)
    now = time.time_ns()
    remarks = (*lint(policies, now=now), *deployment.remarks(policies, now=now))
    files = [*policy_files(paths), *compose]
    _report(sarif_file, junit_file, remarks=remarks, files=files)
    findings = [remark for remark in remarks if remark.severity == "finding"]
    proposals = deployment.proposals() if propose else ""
    if as_json:
        print_json(
            {
                "ok": not findings,
                "documents": [document_json(document) for document in policies],
                "findings": [_remark_json(remark) for remark in findings],
                "warnings": [_remark_json(r) for r in remarks if r.severity == "warning"],
                **({"proposals": proposals} if propose else {}),
            }
        )
        sys.exit(Violations.exit_code if findings else 0)
    click.echo(proposals, nl=False)
    for remark in remarks:
        say(f"{remark.place}: {remark.severity}: {remark.message} ({remark.hint})")
    for project in deployment.projects:
        say(f"{project.name}: {len(project.services)} services declare {len(project.links)} links")
    say(f"{len(policies)} documents in {len(files)} files are valid")
    sys.exit(Violations.exit_code if findings else 0)


def _read(paths: Sequence[Path], compose: Sequence[Path]) -> tuple[tuple[Policy, ...], Deployment]:
    """Everything that is named, or every problem of all of it."""
    problems = Problems()
    policies: tuple[Policy, ...] = ()
    deployment = Deployment()
    with problems.collected():
        policies = read_policies(paths)
    with problems.collected():
        deployment = read_deployment(compose)
    problems.raise_any()
    return policies, deployment


def _report(
    sarif_file: Path | None,
    junit_file: Path | None,
    *,
    remarks: Sequence[Remark] = (),
    mistakes: Sequence[InvalidDocument] = (),
    files: Sequence[Path] = (),
) -> None:
    """For other programs: the same as is printed, warnings in SARIF alone."""
    if sarif_file is not None:
        write_report(sarif_file, json.dumps(sarif(__version__, remarks, mistakes), indent=2))
    if junit_file is not None:
        cases = [Case(m.message, m.file or "", m.line or 1, str(m), m.code) for m in mistakes]
        found = [remark for remark in remarks if remark.severity == "finding"]
        cases += [
            Case(r.message, r.place.file, r.place.line, f"{r.message} ({r.hint})", r.code)
            for r in found
        ]
        faulty = {case.file for case in cases}
        cases += [Case("is valid", str(f), 1) for f in files if str(f) not in faulty]
        write_report(junit_file, junit("netwatch policy check", cases))


def _fail_check(invalid: InvalidPolicies, *, as_json: bool) -> None:
    """Print every problem, not the first alone."""
    if as_json:
        told = [problem.as_json() for problem in invalid.problems]
        problems = [one["error"] | {"replacement": one.get("replacement")} for one in told]
        print_json({**invalid.as_json(), "errors": problems})
    for problem in invalid.problems:
        say(f"netwatch: {problem}")
    sys.exit(invalid.exit_code)


@policy.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--version", metavar="N", help="Of the controller: a number, current, previous.")
@click.option("--text", "as_text", is_flag=True, help="The documents of --version as they are.")
@json_option
def show(paths: Sequence[Path], version: str | None, as_text: bool, as_json: bool) -> None:
    """List documents: whom each governs, in which mode, and what it isolates."""
    if bool(paths) == bool(version) or (as_text and not version):
        raise click.UsageError("name PATHS, or --version N")
    if version and as_text:
        _print_version(version, as_json=as_json)
        return
    policies = _of_version(version) if version else read_policies(paths)
    if as_json:
        documents = [document_json(document) for document in policies]
        print_json({"ok": True, "policies": documents, "next": None, "losses": {}})
        return
    rows = [
        (p.kind, p.namespace or "*", p.name, p.mode, _isolated(p), governs(p), p.place)
        for p in policies
    ]
    headings = ("KIND", "NAMESPACE", "NAME", "MODE", "ISOLATES", "GOVERNS", "PLACE")
    click.echo(table(headings, rows))


def _isolated(document: Policy) -> str:
    pairs = (("ingress", document.isolates_ingress), ("egress", document.isolates_egress))
    return " ".join(word for word, isolates in pairs if isolates) or "-"


def _of_version(version: str) -> tuple[Policy, ...]:
    from netwatch.cli.policy_versions import policies_of

    return policies_of(version)


def _print_version(version: str, *, as_json: bool) -> None:
    from netwatch.cli.policy_versions import files_of

    answer = files_of(version)
    if as_json:
        print_json(answer)
        return
    for number, file in enumerate(answer["documents"]):
        if number:
            click.echo("---")
        click.echo(f"# {printable(file['name'])}\n{file['text']}", nl=False)


def _remark_json(remark: Remark) -> dict[str, Any]:
    return {
        "code": remark.code,
        "message": remark.message,
        "hint": remark.hint,
        **place_json(remark.place),
    }

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
from netwatch.cli.output import json_option, print_json, say, table
from netwatch.cli.policy_answers import document_json, governs, isolated, place_json, write_report
from netwatch.cli.policy_inputs import PATHS
from netwatch.model.errors import InvalidDocument, Violations
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.files import policy_files, read_policies
from netwatch.policy.junit import Case, junit
from netwatch.policy.lint import Remark, lint
from netwatch.policy.sarif import sarif

VERBS = {
    "decide": "netwatch.cli.policy_questions",
    "diff": "netwatch.cli.policy_changes",
    "explain": "netwatch.cli.policy_questions",
    "export": "netwatch.cli.policy_files",
    "fmt": "netwatch.cli.policy_files",
    "import": "netwatch.cli.policy_files",
    "learn": "netwatch.cli.policy_traffic",
    "matrix": "netwatch.cli.policy_questions",
    "replay": "netwatch.cli.policy_traffic",
    "test": "netwatch.cli.policy_changes",
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
@PATHS
@click.option("--sarif", "sarif_file", type=click.Path(path_type=Path), help="Write SARIF here.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write JUnit here.")
@json_option
def check(
    paths: Sequence[Path], sarif_file: Path | None, junit_file: Path | None, as_json: bool
) -> None:
    """Find every error (exit 1) and every doubtful rule (exit 3) in policy files."""
    try:
        policies = read_policies(paths)
    except InvalidPolicies as invalid:
        _report(sarif_file, junit_file, mistakes=invalid.problems)
        _fail_check(invalid, as_json=as_json)
    remarks = lint(policies, now=time.time_ns())
    _report(sarif_file, junit_file, remarks=remarks, files=policy_files(paths))
    findings = [remark for remark in remarks if remark.severity == "finding"]
    if as_json:
        print_json(
            {
                "ok": not findings,
                "documents": [document_json(document) for document in policies],
                "findings": [_remark_json(remark) for remark in findings],
                "warnings": [_remark_json(r) for r in remarks if r.severity == "warning"],
            }
        )
        sys.exit(Violations.exit_code if findings else 0)
    for remark in remarks:
        say(f"{remark.place}: {remark.severity}: {remark.message} ({remark.hint})")
    say(f"{len(policies)} documents in {len(policy_files(paths))} files are valid")
    sys.exit(Violations.exit_code if findings else 0)


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
        problems = [problem.as_json()["error"] for problem in invalid.problems]
        print_json({**invalid.as_json(), "errors": problems})
    for problem in invalid.problems:
        say(f"netwatch: {problem}")
    sys.exit(invalid.exit_code)


@policy.command()
@PATHS
@json_option
def show(paths: Sequence[Path], as_json: bool) -> None:
    """List documents: whom each governs, in which mode, and what it isolates."""
    policies = read_policies(paths)
    if as_json:
        documents = [document_json(document) for document in policies]
        print_json({"ok": True, "policies": documents, "next": None, "losses": {}})
        return
    rows = [
        (p.kind, p.namespace or "*", p.name, p.mode, isolated(p), governs(p), p.place)
        for p in policies
    ]
    headings = ("KIND", "NAMESPACE", "NAME", "MODE", "ISOLATES", "GOVERNS", "PLACE")
    click.echo(table(headings, rows))


def _remark_json(remark: Remark) -> dict[str, Any]:
    return {
        "code": remark.code,
        "message": remark.message,
        "hint": remark.hint,
        **place_json(remark.place),
    }

"""`netwatch policy library` and `use`: policies that are turned on by name and scope."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import click

from netwatch.cli.output import json_option, print_json, printable, say, table, write_report
from netwatch.model.errors import UsageError, Violations
from netwatch.policy.answers import governs, place_json
from netwatch.policy.document import parse
from netwatch.policy.fields import meant
from netwatch.policy.ir import EVERYTHING, Mode
from netwatch.policy.library import (
    GOVERNS,
    PARTS,
    Entry,
    Parameter,
    instantiate,
    read_entry,
    read_scope,
)
from netwatch.policy.lint import lint
from netwatch.policy.writing import labels_of, one_line
from netwatch.resources import resource

WIDTH = 96


@click.command()
@click.argument("name", required=False)
@json_option
def library(name: str | None, as_json: bool) -> None:
    """List the policies that ship; of NAME tell what, why, how to fix, and what it takes."""
    if name is not None:
        entry = _entry(name)
        if as_json:
            print_json({"ok": True, "policy": _json(entry)})
        else:
            click.echo(printable("\n".join(_told(entry))))
        return
    entries = [_read(file) for file in _files().values()]
    if as_json:
        rows = [_json(entry) for entry in entries]
        print_json({"ok": True, "policies": rows, "next": None, "losses": {}})
        return
    lines = [(e.name, ", ".join(_needs(e)) or "-", e.title) for e in entries]
    click.echo(table(("NAME", "NEEDS", "WHAT"), lines))


@click.command()
@click.argument("name")
@click.option(
    "--scope", required=True, help="shop, all, shop/app=web or 'all/data=pci, env!=dev'."
)
@click.option(
    "--mode",
    type=click.Choice([str(mode) for mode in Mode]),
    default="stage",
    show_default=True,
    help="The mode that the documents get.",
)
@click.option("--name", "called", help="What the documents are called; default: NAME.")
@click.option(
    "--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="May be repeated."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write them here."
)
@json_option
def use(
    name: str,
    scope: str,
    mode: str,
    called: str | None,
    settings: Sequence[str],
    output: Path | None,
    as_json: bool,
) -> None:
    """Print the policy NAME of the library as documents for a scope; exit 3 if `check` would."""
    entry = _entry(name)
    text = instantiate(
        entry,
        read_scope(scope),
        mode=Mode(mode),
        name=called or entry.name,
        given=dict(map(_setting, settings)),
    )
    policies = parse(text, str(output or f"{name}.yaml"))
    remarks = lint(policies, now=time.time_ns())
    findings = [remark for remark in remarks if remark.severity == "finding"]
    if output is not None:
        write_report(output, text)
    if as_json:
        said = [
            {"code": r.code, "message": r.message, "hint": r.hint, **place_json(r.place)}
            for r in findings
        ]
        print_json(
            {"ok": not findings, "text": text, "documents": len(policies), "findings": said}
        )
    elif output is None:
        click.echo(text, nl=False)
    for remark in remarks:
        say(f"{remark.place}: {remark.severity}: {remark.message} ({remark.hint})")
    if output is not None:
        say(f"{output} holds {entry.name} in mode {mode}")
    sys.exit(Violations.exit_code if findings else 0)


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not value.strip():
        raise UsageError(f"--set {text[:60]!r} sets nothing", "write --set ports=5432")
    return name, value


def _files() -> dict[str, Traversable]:
    """The files of the library by the names of their policies."""
    inside = resource("policies").joinpath("library").iterdir()
    files = {f.name.removesuffix(".yaml"): f for f in inside if f.name.endswith(".yaml")}
    return dict(sorted(files.items()))


def _read(file: Traversable) -> Entry:
    return read_entry(file.read_text(encoding="utf-8"), f"policies/library/{file.name}")


def _entry(name: str) -> Entry:
    files = _files()
    if name not in files:
        raise UsageError(f"the library has no policy {name[:60]!r}", meant(name, files))
    return _read(files[name])


def _json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        **entry.texts,
        "standards": list(entry.standards),
        "kinds": list(entry.kinds),
        "governs": governs(entry.policies[0]),
        "governs_by_scope": entry.follows,
        "every_namespace": entry.anywhere,
        "parameters": [
            {"name": p.name, "meaning": p.meaning, "default": None if p.needed else p.default}
            for p in _settable(entry)
        ],
    }


def _settable(entry: Entry) -> list[Parameter]:
    return [parameter for parameter in entry.parameters if parameter.name != GOVERNS]


def _needs(entry: Entry) -> list[str]:
    return ["labels" if name == GOVERNS else name for name in entry.needs]


def _told(entry: Entry) -> Iterator[str]:
    yield f"{entry.name}: {entry.title}."
    for part in PARTS:
        if entry.texts[part]:
            yield ""
            yield from _wrapped(part.capitalize(), entry.texts[part])
    yield ""
    yield from _wrapped("Standards", "; ".join(entry.standards))
    whom = "all" if entry.subject == EVERYTHING else one_line(labels_of(entry.subject))
    labels = (
        "labels of the scope stand in its place" if entry.follows else "and the scope's labels"
    )
    yield from _wrapped("Governs", f"{whom}; {labels}")
    reach = "all, or a namespace" if entry.anywhere else "a namespace"
    yield from _wrapped("Scope", f"{reach}, with or without labels")
    for parameter in _settable(entry):
        default = "it must be set" if parameter.needed else f"default {parameter.default}"
        yield from _wrapped(f"--set {parameter.name}", f"{parameter.meaning} ({default})")
    yield ""
    needs = "".join(f" --set {name}=…" for name in entry.needs if name != GOVERNS)
    where = "all" if entry.anywhere else "NAMESPACE"
    labelled = "/LABELS" if GOVERNS in entry.needs else ""
    yield f"netwatch policy use {entry.name} --scope {where}{labelled}{needs}"


def _wrapped(heading: str, text: str) -> list[str]:
    """A paragraph behind its heading, which hangs out to the left."""
    start = f"{heading:<10} "
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * 11,
        break_long_words=False,
        break_on_hyphens=False,
    )

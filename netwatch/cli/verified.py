"""How `netwatch host verify` tells what it found: for a person, and as JSON for a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netwatch import settings
from netwatch.agent import hits
from netwatch.cli.host import MAX_TOLD
from netwatch.cli.output import print_json, say
from netwatch.enforce import counters, host
from netwatch.enforce.verify import Verified
from netwatch.model.errors import Violations
from netwatch.model.times import rfc3339


def tell_verified(found: Verified, name: str, *, as_json: bool) -> None:
    """Print it; raises Violations, or Exit with its code, where anything differs."""
    drift = found.drift
    if as_json:
        print_json(_as_json(found, name))
        if drift:
            raise click.exceptions.Exit(Violations.exit_code)
        return
    for line in drift[:MAX_TOLD]:
        say(line)
    for edge in found.host_granular[:MAX_TOLD]:
        say(f"host-granular edge: {edge}")
    if found.kernel:
        raise Violations(
            f"the kernel differs in {len(found.kernel)} ways", "netwatch host apply mends it"
        )
    if drift:
        raise Violations(
            f"the documents differ in {len(drift)} ways", "netwatch host apply makes them one"
        )
    say("the kernel holds what was applied")


def _as_json(found: Verified, name: str) -> dict[str, Any]:
    state = Path(settings.load().state)
    return {
        "ok": not found.drift,
        "drift": list(found.drift),
        "intention": list(found.intention),
        "files": list(found.files),
        "kernel": list(found.kernel),
        "backend": found.backend,
        "applied": rfc3339(found.applied_at),
        "enforced": list(found.documents),
        "staged": list(found.staged),
        "host_granular": list(found.host_granular),
        "notes": list(found.notes),
        "totals": counters.totals(counters.file_of(state, name), found.backend, host.folder()),
        "rules": _rules(found, hits.file_of(state, name)),
    }


def _rules(found: Verified, file: Path) -> list[dict[str, Any]] | None:
    """Every enforced rule with what an agent counted; None where none ever did."""
    if not file.exists():
        return None
    return [
        {
            "document": used.policy.title,
            "file": used.rule.place.file,
            "line": used.rule.place.line,
            "direction": used.direction.value,
            "name": used.rule.name,
            "hits": used.hit.count if used.hit else 0,
            "last_hit": rfc3339(used.hit.last) if used.hit else None,
            "since": rfc3339(used.hit.since) if used.hit else None,
        }
        for used in hits.used(found.policies, file)
    ]

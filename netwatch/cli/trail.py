"""Lines of the audit trail for what is done to this host by hand: rules, quarantine, off, on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from netwatch.model.errors import NetwatchError


def audited(
    action: str,
    details: Mapping[str, str | int | bool | None],
    *,
    subject: str | None = None,
) -> tuple[str, ...]:
    """Write one line; without a `subject` it is of the host itself.

    What can not be written down is done all the same, and said: a full disk must not stand
    between an operator and the firewall. Returns what is to be said.
    """
    from netwatch.audit import append, this_actor
    from netwatch.settings import load

    settings = load()
    try:
        append(
            Path(settings.state),
            action,
            subject=subject or settings.host,
            actor=this_actor(os.environ),
            details=details,
            now=time.time_ns(),
        )
    except NetwatchError as error:
        return (f"this is not in the audit trail: {error.message}",)
    return ()

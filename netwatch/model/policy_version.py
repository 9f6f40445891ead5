"""A version of the policies: every document of the fleet at one time, its hash, and who set it.

The hash is over the texts alone, so that a host can tell it from the files that it enforces, and
a version that was restored has the hash of the one that it restores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from netwatch.model.times import rfc3339


@dataclass(frozen=True, slots=True)
class Document:
    """A policy file: what it was called where it came from, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """`version` counts up from 1 and is never used twice; `sha256` is `digest_of` the documents.

    `restores` is the version whose documents these are again. `replay` is the id of the replay
    that somebody signed it off with. `state`: in-force, unconfirmed (in force until it is
    confirmed or its time is over), withdrawn (not confirmed in time), past.
    """

    version: int
    sha256: str
    author: str
    reason: str | None
    ticket: str | None
    replay: str | None
    created: int
    restores: int | None
    names: tuple[str, ...]
    state: str
    confirm_by: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a controller wants in force. `turn` rises with every decision of it, also to go back.

    `confirm_s` are the seconds after which it is to be undone unless it is confirmed before; None:
    it stays. `documents` are None where whoever asked has them already. Version 0 has none.
    """

    turn: int
    version: int
    sha256: str
    confirm_s: float | None
    documents: tuple[Document, ...] | None


def digest_of(texts: Iterable[str]) -> str:
    """SHA-256 over the SHA-256 of each text in turn, in hex."""
    parts = [hashlib.sha256(text.encode()).digest() for text in texts]
    return hashlib.sha256(b"".join(parts)).hexdigest()


NO_DOCUMENTS = digest_of(())  # the hash of no documents at all


def version_as_json(version: PolicyVersion) -> dict[str, Any]:
    """The object of `netwatch policy versions --json` and `/api/v1/policies`."""
    return {
        "version": version.version,
        "sha256": version.sha256,
        "state": version.state,
        "author": version.author,
        "reason": version.reason,
        "ticket": version.ticket,
        "replay": version.replay,
        "created": rfc3339(version.created),
        "confirm_by": rfc3339(version.confirm_by),
        "restores": version.restores,
        "documents": list(version.names),
    }

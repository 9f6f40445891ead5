"""What a rule demands of a connection that it allows, held against what the connection was.

No first packet can answer `encrypted` or `tls>=1.2`, so `decide` allows with an obligation, and
this judges afterwards. Only proof counts: plaintext or too old a TLS breaks it, what is not known
breaks nothing, unless the rule says `strict: true`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from netwatch.model.flow import Encryption

TLS_OF = {
    "SSLv2": -1,
    "SSLv3": -1,
    "TLSv1.0": 0,
    "TLSv1.1": 1,
    "TLSv1.2": 2,
    "TLSv1.3": 3,
    "DTLSv1.0": 1,  # RFC 4347: made from TLS 1.1
    "DTLSv1.2": 2,
    "DTLSv1.3": 3,
    "QUICv1": 3,  # RFC 9001: QUIC speaks TLS 1.3
    "QUICv2": 3,  # RFC 9369
}
"""The minor number of TLS that each version is worth."""
_PREFIX = "tls>=1."


class Outcome(StrEnum):
    """Whether an obligation was met."""

    SATISFIED = "satisfied"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


def judged(obligations: Sequence[str], seen: Encryption, *, strict: bool = False) -> Outcome:
    """The worst outcome of all obligations of a decision; without any, satisfied.

    `strict`: what is unknown breaks the rule too.
    """
    found = {_judged(obligation, seen) for obligation in obligations}
    if Outcome.VIOLATED in found:
        return Outcome.VIOLATED
    if Outcome.UNKNOWN in found:
        return Outcome.VIOLATED if strict else Outcome.UNKNOWN
    return Outcome.SATISFIED


def _judged(obligation: str, seen: Encryption) -> Outcome:
    if seen.status == "plaintext":
        return Outcome.VIOLATED
    if seen.status != "encrypted":
        return Outcome.UNKNOWN
    if not obligation.startswith(_PREFIX):
        return Outcome.SATISFIED
    worth = TLS_OF.get(seen.version or "")
    if worth is None or seen.proof != "handshake":
        return Outcome.UNKNOWN  # encrypted by another protocol, or one end alone was heard
    least = int(obligation.removeprefix(_PREFIX))
    return Outcome.SATISFIED if worth >= least else Outcome.VIOLATED

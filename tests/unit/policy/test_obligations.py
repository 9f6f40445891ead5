"""What counts as proof that a connection kept what its rule demands, and that it did not."""

from __future__ import annotations

import pytest

from netwatch.model.flow import Encryption
from netwatch.policy.document import parse
from netwatch.policy.evaluate import decide
from netwatch.policy.ir import Party
from netwatch.policy.obligations import judged
from netwatch.policy.writing import as_text

from .worlds import API, DB, WORLD, segment

CLEAR = Encryption("plaintext", "content")
UNKNOWN = Encryption()
SSH = Encryption("encrypted", "handshake", "ssh", "SSH-2.0")
OFFERED = Encryption("encrypted", "negotiation", "tls", "TLSv1.0")


def _tls(version: str) -> Encryption:
    return Encryption("encrypted", "handshake", "tls", version)


@pytest.mark.parametrize(
    ("demanded", "seen", "outcome"),
    [
        pytest.param("encrypted", CLEAR, "violated", id="proven plaintext"),
        pytest.param("tls>=1.2", CLEAR, "violated", id="plaintext for TLS"),
        pytest.param("encrypted", SSH, "satisfied", id="any encryption"),
        pytest.param("encrypted", UNKNOWN, "unknown", id="nothing known"),
        pytest.param("tls>=1.2", UNKNOWN, "unknown", id="nothing known of TLS"),
        pytest.param("tls>=1.2", _tls("TLSv1.1"), "violated", id="too old"),
        pytest.param("tls>=1.0", _tls("SSLv3"), "violated", id="SSL is older than any TLS"),
        pytest.param("tls>=1.2", _tls("TLSv1.2"), "satisfied", id="just enough"),
        pytest.param("tls>=1.3", _tls("TLSv1.2"), "violated", id="one too old"),
        pytest.param("tls>=1.3", _tls("QUICv1"), "satisfied", id="QUIC speaks TLS 1.3"),
        pytest.param("tls>=1.2", _tls("DTLSv1.0"), "violated", id="DTLS 1.0 is TLS 1.1"),
        pytest.param("tls>=1.2", SSH, "unknown", id="encrypted by another protocol"),
        pytest.param("tls>=1.2", OFFERED, "unknown", id="one end alone proves no version"),
    ],
)
def test_only_proof_keeps_or_breaks_an_obligation(
    demanded: str, seen: Encryption, outcome: str
) -> None:
    """Unknown breaks nothing, unless the rule is strict; strictness changes nothing else."""
    assert judged([demanded], seen) == outcome
    strictly = "violated" if outcome == "unknown" else outcome
    assert judged([demanded], seen, strict=True) == strictly


def test_of_several_the_worst_counts() -> None:
    assert judged(["encrypted", "tls>=1.3"], _tls("TLSv1.2")) == "violated"
    assert judged([], CLEAR, strict=True) == "satisfied"


@pytest.mark.parametrize("strict", [True, False])
def test_a_decision_says_what_it_demands_and_how_strictly(strict: bool) -> None:
    """And a document that is written and read again says the same."""
    more = ", strict: true" if strict else ""
    policies = segment(
        f"governs: {{app: db}}\nrules: [{{from: {{app: api}}, require: tls>=1.2{more}}}]"
    )
    for each in (policies, parse(as_text(policies), "again.yaml")):
        found = decide(each, WORLD, Party(API), Party(DB), "tcp", 5432)
        assert (found.verdict, found.obligations, found.strict) == ("allow", ("tls>=1.2",), strict)

"""What was heard gets names: the ends, and the document that decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.agent.denials import Naming
from netwatch.enforce.nflog import Heard
from netwatch.model.report import Report
from netwatch.policy.ir import Mode
from netwatch.wire import pack, unpack
from tests.unit.enforce.worlds import HERE, chosen, policy, snapshot, workload

HOST = snapshot(workload("web", 10), workload("api", 11))
CLOSED = policy(chosen("app", "api"), isolates_ingress=True)
W, A, OUT = "198.18.1.10", "198.18.1.11", "203.0.113.9"
HEARD = Heard("denied", W, A, "tcp", 80, 3, 1, 2)


@pytest.mark.parametrize(
    ("heard", "source", "document"),
    [
        pytest.param(HEARD, "a/x/web", "NetworkPolicy x/made", id="a workload"),
        pytest.param(
            replace(HEARD, source=OUT), f"external:{OUT}", "NetworkPolicy x/made", id="outside"
        ),
        pytest.param(
            replace(HEARD, kind="would-deny"), "a/x/web", "NetworkPolicy x/made", id="staged"
        ),
        pytest.param(replace(HEARD, kind="unknown", source=OUT), f"external:{OUT}", None, id="?"),
        pytest.param(replace(HEARD, kind="quarantined"), "a/x/web", None, id="quarantined"),
        pytest.param(
            replace(HEARD, kind="spoofed", interface=11), "a/x/api", None, id="api claims web's"
        ),
        pytest.param(replace(HEARD, kind="spoofed"), f"external:{W}", None, id="nobody's port"),
        pytest.param(
            replace(HEARD, source="192.0.2.1"), "host:a", None, id="the host, let in meanwhile"
        ),
    ],
)
def test_a_denial_names_its_ends_and_its_document(
    heard: Heard, source: str, document: str | None
) -> None:
    denial = Naming((CLOSED,), HOST).denial(heard, 0)
    assert (denial.source, denial.destination, denial.document) == (source, "a/x/api", document)
    assert (denial.count, denial.first, denial.last) == (3, 1, 2)
    if document:
        assert (denial.file, denial.line) == (HERE.file, HERE.line)


def test_a_staged_document_is_named_only_for_what_it_would_deny() -> None:
    naming = Naming((replace(CLOSED, mode=Mode.STAGE),), HOST)
    assert naming.denial(HEARD, 0).document is None
    assert naming.denial(replace(HEARD, kind="would-deny"), 0).document == "NetworkPolicy x/made"


def test_denials_cross_the_wire() -> None:
    """As part of a report; one without them, from an older agent, is read as well."""
    denial = Naming((CLOSED,), HOST).denial(HEARD, 0)
    report = Report("a", "boot", 1, 0, 1, denials=(denial,))
    assert unpack(pack(report)).denials == (denial,)
    assert unpack(pack(replace(report, denials=()))).denials == ()

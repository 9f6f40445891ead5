"""Names and obligations as rules: what is dropped, what is refused, and what lives on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.enforce.begun import lenient
from netwatch.enforce.compile import compile
from netwatch.enforce.conditions import MISSED, narrowed
from netwatch.enforce.ruleset import FAMILIES, Drop, Ruleset
from netwatch.enforce.walk import DENY, PASS, Packet, Walker
from netwatch.model.snapshot import Refused, Snapshot
from netwatch.policy.document import parse
from netwatch.policy.ir import Policy
from tests.unit.enforce.worlds import snapshot, workload

WEB, API = (workload(name, n, namespace="x") for n, name in ((10, "web"), (11, "api")))
HOST = snapshot(WEB, API)
W, A, OUT, OTHER, OUT6 = (
    "198.18.1.10",
    "198.18.1.11",
    "203.0.113.9",
    "203.0.113.8",
    "2001:db8:f::9",
)
HEAD = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: web, namespace: x}
spec:
  mode: enforce
  governs: {app: web}
  rules:
"""


def documents(*rules: str) -> tuple[Policy, ...]:
    return tuple(parse(HEAD + "".join(f"    - {rule}\n" for rule in rules), "web.yaml"))


BY_NAME = documents("{to: '*.example.com', ports: 443, because: t}")
SECRET = documents("{to: {app: api}, ports: 443, require: encrypted, because: t}")
KNOWN = (("api.example.com", (OUT, OUT6)),)


def built(policies: tuple[Policy, ...], host: Snapshot) -> Ruleset:
    return compile(policies, host, now=0)


def verdict(ruleset: Ruleset, target: str, port: int = 443, source: str = W) -> str:
    return Walker(ruleset).verdict(Packet("NW-FWD", source, target, "tcp", port))


@pytest.mark.parametrize(
    ("host", "target", "wanted"),
    [
        pytest.param(HOST, OUT, DENY, id="nothing is known"),
        pytest.param(replace(HOST, names=KNOWN), OUT, PASS, id="known"),
        pytest.param(replace(HOST, names=KNOWN), OTHER, DENY, id="another address"),
        pytest.param(replace(HOST, lapsed=KNOWN), OUT, DENY, id="lapsed"),
        pytest.param(replace(HOST, names=(("example.com", (OUT,)),)), OUT, DENY, id="not below"),
    ],
)
def test_an_address_is_open_while_its_name_is_known(
    host: Snapshot, target: str, wanted: str
) -> None:
    """And only on the rule's port."""
    ruleset = built(BY_NAME, host)
    assert verdict(ruleset, target) == wanted
    assert verdict(ruleset, target, 80) == DENY


@pytest.mark.parametrize("family", FAMILIES)
def test_a_miss_of_a_name_is_dropped_and_not_rejected(family: int) -> None:
    """Of those whom the rule governs; the walk through the chains ends in a Drop."""
    ruleset = built(BY_NAME, HOST)
    chains = {chain.name: chain.rules for chain in ruleset.of_family(family)}
    outside = [getattr(rule.target, "chain", "") for rule in chains["NW-EXT-OUT"]]
    assert outside[-2:] == ["NW-MISS", "NW-DENY"]
    assert chains[MISSED][0].target == Drop()
    members = {each.title: each.members for each in ruleset.sets}
    assert members["nw-named4"] == {W} and A not in members["nw-named4"]
    assert members["nw-named6"] == set(a for a in WEB.addresses if ":" in a)


def test_documents_without_conditions_cost_nothing() -> None:
    """Not a chain, not a set."""
    plain = documents("{to: {app: api}, ports: 443, because: t}")
    ruleset = built(plain, replace(HOST, names=KNOWN))
    assert ruleset == built(plain, HOST)
    assert not {"nw-named", "nw-refused"} & {each.name for each in ruleset.sets}


def test_what_is_refused_goes_before_the_edge_that_allows_it() -> None:
    """That source, destination, port and protocol only, and only where documents oblige."""
    refused = replace(HOST, refused=(Refused(W, A, "tcp", 443, 9),))
    assert verdict(built(SECRET, HOST), A) == PASS
    assert verdict(built(SECRET, refused), A) == DENY
    assert verdict(built(SECRET, refused), W, source=A) == verdict(
        built(SECRET, HOST), W, source=A
    )
    plain = documents("{to: {app: api}, ports: 443, because: t}")
    assert verdict(built(plain, refused), A) == PASS


def test_sessions_outlive_their_name_and_their_neighbours_fault() -> None:
    """Unless no document speaks of the name any more."""
    late = replace(HOST, lapsed=KNOWN)
    assert verdict(lenient(built(BY_NAME, late), BY_NAME, late, now=0), OUT) == PASS
    assert verdict(lenient(built(SECRET, late), SECRET, late, now=0), OUT) == DENY
    refused = replace(HOST, refused=(Refused(W, A, "tcp", 443, 9),))
    assert verdict(lenient(built(SECRET, refused), SECRET, refused, now=0), A) == PASS
    assert lenient(built(SECRET, HOST), SECRET, HOST, now=0) == built(SECRET, HOST)


def test_a_name_that_no_document_speaks_of_changes_nothing() -> None:
    """So that not every answer of a name server is a change of the rules."""
    host = replace(HOST, names=(("other.test", (OUT,)), *KNOWN), lapsed=(("a.test", (OUT,)),))
    assert narrowed(host, BY_NAME) == replace(HOST, names=KNOWN)
    assert narrowed(host, SECRET) == HOST

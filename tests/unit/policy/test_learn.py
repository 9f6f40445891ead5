"""What is proposed from which evidence, and what is set aside and why."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from netwatch.model.workload import Label
from netwatch.policy.document import parse
from netwatch.policy.evaluate import STAGED, Judge
from netwatch.policy.evidence import Call, Evidence, outcasts
from netwatch.policy.ir import Mode, Party, World
from netwatch.policy.learn import learn
from netwatch.policy.lint import lint
from netwatch.policy.writing import as_text

from .worlds import API, DB, HOST, PAY, ROGUE, WEB, WORLD, workload

SECOND = 10**9
FRIDAY = 1_795_142_400 * SECOND  # 2026-11-20T02:40:00Z


def _call(source, destination, port=5432, protocol="tcp", **more) -> Call:
    ends = [p if isinstance(p, Party) else Party(p, p.addresses[0]) for p in (source, destination)]
    names = [p.workload.identity if p.workload else p.address for p in ends]
    given = {
        "connections": 1,
        "first_seen": FRIDAY,
        "last_seen": FRIDAY + 5 * SECOND,
        "days": frozenset([date(2026, 11, 20)]),
    }
    return Call(*ends, protocol, port, f"{names[0]}>{names[1]}:{protocol}/{port}", **given | more)


def _learn(*calls: Call, world=WORLD, **more):
    return learn(world, Evidence(calls), **more)


def _rules(found) -> list[str]:
    lines = as_text(found.policies).splitlines()
    kept = ("governs:", "- from:", "- to:", "ports:")
    return [line.strip() for line in lines if line.strip().startswith(kept)]


def test_one_call_becomes_one_rule_at_each_end() -> None:
    """Both Segments isolate both directions, so whatever was not seen would be denied."""
    found = _learn(_call(API, DB))
    assert _rules(found) == [
        *("governs: {app: api}", "- to: {app: db}", "ports: 5432"),
        *("governs: {app: db}", "- from: {app: api}", "ports: 5432"),
    ]
    assert {p.mode for p in found.policies} == {Mode.STAGE}
    judge = Judge(found.policies, WORLD, STAGED)
    assert judge.decide(Party(WEB), Party(DB), "tcp", 5432).verdict == "deny"
    assert judge.decide(Party(API), Party(DB), "tcp", 5433).verdict == "deny"
    assert judge.decide(Party(WEB), Party(PAY), "tcp", 443).verdict == "allow"
    assert (found.seen, found.allows, found.ratio) == (2, 2, 1.0)


def test_a_proposal_passes_check_with_nothing_to_remark_but_dns() -> None:
    """It says why, names peers and ports, and is valid; check warns that DNS is closed."""
    found = _learn(_call(API, DB), _call(PAY, API, 443), _call(HOST, DB, 22))
    read = parse(as_text(found.policies), "learned.yaml")
    assert {remark.code for remark in lint(read, now=FRIDAY)} == {"no-dns"}
    assert all(rule.because for p in read for rule in (*p.ingress, *p.egress))


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (_call(API, DB, direction="guessed"), "nothing proves who called whom"),
        (_call(API, DB, verdict="deny"), "it was denied"),
        (_call(API, DB, answered=False), "nobody answered"),
        (_call(API, DB, unclear="x is not in the world any more"), "x is not in the world"),
        (_call(API, DB, None, "icmp"), "a rule for icmp would allow every port"),
        (_call(API, Party(None, None)), "an end has no address"),
    ],
)
def test_what_proves_nothing_is_set_aside_with_the_reason(call: Call, why: str) -> None:
    found = _learn(call)
    assert found.policies == () and found.evidence == ()
    assert [aside.why[: len(why)] for aside in found.aside] == [why]


def test_calls_under_open_alerts_teach_nothing() -> None:
    call = _call(API, DB)
    found = _learn(call, _call(WEB, API, 443), suspects=frozenset([call.id]))
    assert [aside.why for aside in found.aside] == ["it is under an open alert"]
    assert len(found.evidence) == 1


def test_a_scanner_teaches_nothing_even_where_it_was_answered() -> None:
    """Twelve calls to nowhere make the thirteenth no evidence; another caller is unharmed."""
    scan = [_call(ROGUE, DB, port, answered=False) for port in range(1, 13)]
    found = _learn(*scan, _call(ROGUE, DB), _call(API, DB))
    assert [call.source.workload for call in found.evidence] == [API]
    assert any("lab/rogue scans" in aside.why for aside in found.aside)


def test_replicas_are_one_service_and_counted_as_wider_than_seen() -> None:
    """Of two webs and one db one pair was seen: the rule allows both and says so."""
    labels = (*WEB.labels, Label("com.docker.compose.container-number", "2", "compose"))
    second = replace(WEB, name="web-2", addresses=("198.18.0.9",), labels=labels)
    world = World((WEB, second, DB))
    found = _learn(_call(WEB, DB), world=world)
    assert [p.generalised for p in found.proposals] == ["every replica"] * 2
    assert (found.seen, found.allows, found.ratio) == (2, 4, 0.5)
    both = _learn(_call(WEB, DB), _call(second, DB), world=world)
    assert len(both.policies) == 2 and both.ratio == 1.0


@pytest.mark.parametrize(("ports", "text"), [((40000, 40001), 2), ((40000, 40001, 50000), 1)])
def test_ephemeral_ports_become_a_range_once_there_are_three(ports, text: int) -> None:
    found = _learn(*(_call(API, DB, port) for port in ports))
    (rule,) = next(p for p in found.policies if p.name == "db").ingress
    assert len(rule.ports) == text
    flagged = [p.generalised is not None for p in found.proposals]
    assert flagged == [len(ports) == 3] * 2 and (found.ratio < 0.001) == (len(ports) == 3)


@pytest.mark.parametrize(("number", "peers"), [(7, 7), (8, 1)])
def test_many_addresses_outside_become_the_internet(number: int, peers: int) -> None:
    calls = [_call(WEB, Party(None, f"203.0.113.{n}"), 443) for n in range(10, 10 + number)]
    found = _learn(*calls)
    (policy,) = found.policies
    assert len(policy.egress) == peers
    assert all((p.generalised is not None) == (peers == 1) for p in found.proposals)


def test_what_was_not_seen_is_told_apart() -> None:
    """A service, a replica of one that was seen, and a job, which serves nothing."""
    again = replace(DB, name="db-2", addresses=())
    job = replace(workload("shop/nightly", "198.18.0.9", app="nightly"), ports=())
    world = replace(WORLD, workloads=(*WORLD.workloads, again, job))
    found = _learn(_call(API, DB), world=world, namespaces=frozenset(["shop"]))
    told = found.coverage
    assert (told.services, told.replicas, told.jobs) == (
        ("shop/web",),
        ("shop/db-2",),
        ("shop/nightly",),
    )
    assert told.unseen == ("shop/db-2", "shop/nightly", "shop/web")


def test_a_workload_in_question_teaches_nothing() -> None:
    """In quarantine, or under an alert that another image took its identity: listed, not lost."""
    claimed = {"detector": "identity-claimed", "state": "open", "workloads": [API.identity]}
    for cast_out in (
        outcasts([], [API.key], WORLD),
        outcasts([claimed], [], WORLD),
    ):
        found = _learn(_call(API, DB), outcasts=cast_out)
        assert not found.evidence and "shop/api is in quarantine" in found.aside[0].why
    assert not outcasts([{**claimed, "state": "resolved"}], [], WORLD)


def test_coverage_names_who_and_which_days_were_not_seen() -> None:
    found = _learn(_call(API, DB), namespaces=frozenset(["shop"]))
    coverage = found.coverage
    assert (coverage.unseen, coverage.weekdays) == (("shop/web",), ("Friday",))
    assert "Monday" in coverage.missing and coverage.score == round(2 / 3 / 7, 3)


def test_only_the_chosen_project_is_governed() -> None:
    """A call from another project is evidence for one side and makes no document for the other."""
    found = _learn(_call(PAY, API, 443), _call(ROGUE, PAY), namespaces=frozenset(["shop"]))
    assert [policy.title for policy in found.policies] == ["Segment shop/api"]
    assert found.policies[0].ingress[0].peers and len(found.evidence) == 1


def test_labels_that_no_policy_can_write_name_nobody() -> None:
    """A hostile label is not copied into a document; what is left tells the workloads apart."""
    odd = workload("shop/odd", "198.18.0.7", app="odd")
    odd = replace(odd, labels=(*odd.labels, Label("x", 'a"\n- from: anyone', "own")))
    found = _learn(_call(odd, DB), world=World((*WORLD.workloads, odd)))
    assert "anyone" not in json.dumps(as_text(found.policies))
    assert parse(as_text(found.policies), "f")[0].subject

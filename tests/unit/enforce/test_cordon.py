"""Quarantine as rules: first of all, both ways, by name, and with one exception."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.cordon import may_talk
from netwatch.enforce.render import chain_lines
from netwatch.enforce.ruleset import FAMILIES, Ruleset, State
from netwatch.enforce.walk import DENY, PASS, Packet, Walker
from netwatch.model.snapshot import Quarantine, Snapshot
from netwatch.policy.ir import WorkloadPeer
from tests.unit.enforce.worlds import allow, chosen, policy, snapshot, workload

WEB, API, ROGUE = (workload(name, n) for n, name in ((10, "web"), (11, "api"), (12, "rogue")))
HOST = snapshot(WEB, API, ROGUE)
CLOSED = policy(chosen("app", "web"), isolates_ingress=True, isolates_egress=True)
W, A, R, OUT = "198.18.1.10", "198.18.1.11", "198.18.1.12", "203.0.113.9"
W6, A6 = "2001:db8:1::a", "2001:db8:1::b"
HOOKS = ("NW-FWD", "NW-IN", "NW-OUT")


def held(*entries: Quarantine, host: Snapshot = HOST, policies: tuple = ()) -> Ruleset:
    return compile(policies, replace(host, quarantined=entries), now=0)


def verdict(ruleset: Ruleset, hook: str, source: str, target: str, **more: str) -> str:
    return Walker(ruleset).verdict(Packet(hook, source, target, "tcp", 80, **more))


def text(ruleset: Ruleset) -> list[str]:
    return [
        line
        for family in FAMILIES
        for chain in ruleset.of_family(family)
        for line in chain_lines(chain, family)
    ]


def test_nobody_in_quarantine_costs_nothing() -> None:
    """Not a rule and not a set more than without the feature."""
    assert not any("NW-Q" in line or "physdev" in line for line in text(held(policies=(CLOSED,))))
    assert not any("quarantine" in each.name for each in held(policies=(CLOSED,)).sets)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hook", HOOKS)
def test_the_question_stands_before_what_is_established(hook: str, family: int) -> None:
    """The first rules of each hook lead to the quarantine; loopback and sessions come after."""
    ruleset = held(Quarantine("x/web"), policies=(CLOSED,))
    rules = next(c.rules for c in ruleset.of_family(family) if c.name == hook)
    leads = [getattr(rule.target, "chain", "").startswith("NW-Q-") for rule in rules]
    established = next(n for n, r in enumerate(rules) if State("ESTABLISHED") in r.matches)
    assert leads[0]
    assert leads == sorted(leads, reverse=True)
    assert not leads[established]


@pytest.mark.parametrize(
    ("source", "target", "hook"),
    [
        pytest.param(W, A, "NW-FWD", id="to another workload"),
        pytest.param(A, W, "NW-FWD", id="from another workload"),
        pytest.param(W6, A6, "NW-FWD", id="to another workload by IPv6"),
        pytest.param(A6, W6, "NW-FWD", id="from another workload by IPv6"),
        pytest.param(W, OUT, "NW-FWD", id="to the outside"),
        pytest.param(OUT, W, "NW-FWD", id="from the outside"),
        pytest.param(W, "198.18.1.1", "NW-IN", id="to the host"),
        pytest.param("198.18.1.1", W, "NW-OUT", id="from the host"),
    ],
)
def test_both_directions_are_dropped_without_any_policy(
    source: str, target: str, hook: str
) -> None:
    assert verdict(held(), hook, source, target) == PASS
    assert verdict(held(Quarantine("x/web")), hook, source, target) == DENY


def test_others_are_not_touched() -> None:
    assert verdict(held(Quarantine("x/web")), "NW-FWD", A, R) == PASS


@pytest.mark.parametrize(("source", "target"), [(W, R), (R, W)], ids=["out", "in"])
def test_the_forensic_address_is_the_one_exception_whatever_policies_say(
    source: str, target: str
) -> None:
    ruleset = held(Quarantine("x/web", (f"{R}/32",)), policies=(CLOSED,))
    assert verdict(ruleset, "NW-FWD", source, target) == PASS
    assert verdict(ruleset, "NW-FWD", W, A) == DENY
    assert verdict(held(policies=(CLOSED,)), "NW-FWD", source, target) == DENY


def test_both_ends_must_permit_when_both_are_quarantined() -> None:
    """One's exception does not open the other."""
    one = held(Quarantine("x/web", ("198.18.1.0/24",)), Quarantine("x/api"))
    both = held(Quarantine("x/web", ("198.18.1.0/24",)), Quarantine("x/api", (W,)))
    assert {verdict(one, "NW-FWD", W, A), verdict(one, "NW-FWD", A, W)} == {DENY}
    assert {verdict(both, "NW-FWD", W, A), verdict(both, "NW-FWD", A, W)} == {PASS}


def test_one_exception_is_not_anothers() -> None:
    ruleset = held(Quarantine("x/web", (R,)), Quarantine("x/api"))
    assert verdict(ruleset, "NW-FWD", R, A) == DENY


@pytest.mark.parametrize(
    "source", ["198.18.1.99", "fe80::1"], ids=["a forged address", "a link-local address"]
)
def test_its_port_of_the_bridge_is_closed_whatever_address_it_claims(source: str) -> None:
    target = A6 if ":" in source else A
    ruleset = held(Quarantine("x/web"))
    assert verdict(ruleset, "NW-FWD", source, target, interface="v-web") == DENY
    assert verdict(ruleset, "NW-FWD", source, target, interface="v-rogue") == PASS


def test_a_new_address_is_quarantined_like_the_old_one_and_changes_no_rule() -> None:
    """By identity: whoever takes the old address is free, and rules stay as they are."""
    entry = Quarantine("x/web", (R,))
    moved = snapshot(replace(WEB, addresses=("198.18.1.77",)), API, replace(ROGUE, addresses=(W,)))
    before, after = held(entry), held(entry, host=moved)
    assert verdict(after, "NW-FWD", "198.18.1.77", A) == DENY
    assert verdict(after, "NW-FWD", W, A) == PASS
    assert text(before) == text(after)


def test_a_name_that_is_quarantined_and_gone_keeps_its_place() -> None:
    """Between two lives of a container the chains stay, so that its return only adds members."""
    gone = held(Quarantine("x/web"), host=snapshot(API))
    assert not [s.members for s in gone.sets if s.name == "nw-quarantine" and s.members]
    assert any("NW-Q-FROM" in line for line in text(gone))


def test_hostile_names_are_not_in_any_rule() -> None:
    """The rules are those of a harmless twin: names become ten hex digits of a hash at most."""
    hostile = 'x"; -j ACCEPT\n-A INPUT'
    host = snapshot(replace(WEB, name=hostile), API)
    entry = Quarantine(f"x/{hostile}")
    assert text(held(entry, host=host)) == text(held(Quarantine("x/web")))
    with_exception = text(held(replace(entry, allow=(R,)), host=host))
    assert not any("ACCEPT" in line or "\n" in line for line in with_exception)


def test_who_shares_the_hosts_network_is_never_cut_off() -> None:
    """A name may come back as the host itself; the host's own address must not be dropped."""
    host = snapshot(replace(WEB, host_network=True, addresses=("192.0.2.1",)), API)
    assert verdict(held(Quarantine("x/web"), host=host), "NW-OUT", "192.0.2.1", A) == PASS


@pytest.mark.parametrize("source", (W, A, R, OUT))
@pytest.mark.parametrize("target", (W, A, R, OUT))
def test_the_function_and_the_rules_agree(source: str, target: str) -> None:
    """What names verdicts and cuts sessions says what the rules do."""
    entries = (Quarantine("x/web", (R, "203.0.113.0/24")), Quarantine("x/api", (W,)))
    says = may_talk(replace(HOST, quarantined=entries))(source, target)
    assert says is (verdict(held(*entries), "NW-FWD", source, target) == PASS)


def test_a_quarantine_says_so_among_the_notes() -> None:
    rule = allow(WorkloadPeer(chosen("app", "api")))
    ruleset = held(Quarantine("x/web"), policies=(replace(CLOSED, ingress=(rule,)),))
    assert "x/web is quarantined" in ruleset.facts.notes

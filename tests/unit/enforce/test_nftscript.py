"""The nft script holds the rules' own sets and matches, in the words of nft."""

from __future__ import annotations

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.nftscript import script
from netwatch.enforce.ruleset import (
    Chain,
    Drop,
    Entered,
    InSet,
    MemberSet,
    NotSyn,
    Protocol,
    Return,
    Rule,
    Ruleset,
)
from netwatch.model.errors import NetwatchError
from netwatch.model.snapshot import Snapshot
from tests.unit.policy.worlds import API, DB, WEB, segment


def _script(rule: Rule, *sets: MemberSet, family: int = 4) -> str:
    chains = ((family, (Chain("NW-FWD", (rule,)),)),)
    return script(Ruleset(chains, sets, enforcing=True))


@pytest.mark.parametrize(
    ("rule", "family", "line"),
    [
        pytest.param(
            Rule(Return(), (InSet("e", "src,dst,dst"),)),
            4,
            "ip saddr . meta l4proto . th dport . ip daddr @e4 return",
            id="a port stands for its protocol",
        ),
        pytest.param(
            Rule(Drop(), (InSet("e", "src,dst,dst", negated=True),)),
            6,
            "ip6 saddr . meta l4proto . th dport . ip6 daddr != @e6 drop",
            id="not a member",
        ),
        pytest.param(
            Rule(Drop(), (Protocol("tcp"), NotSyn())),
            4,
            "meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn drop",
            id="what begins no connection",
        ),
    ],
)
def test_a_rule_in_the_words_of_nft(rule: Rule, family: int, line: str) -> None:
    empty = MemberSet("e", family, "hash:ip,port,ip", "allow")
    assert f"    {line}" in _script(rule, empty, family=family).splitlines()


def test_networks_inside_others_are_left_out() -> None:
    """Of the same address and port only: nft refuses members that overlap."""
    members = {
        "198.18.0.1,tcp:80,203.0.113.0/24",
        "198.18.0.1,tcp:80,203.0.113.128/25",
        "198.18.0.1,tcp:81,203.0.113.128/25",
    }
    text = _script(
        Rule(Drop()), MemberSet("n", 4, "hash:ip,port,net", "allow", frozenset(members))
    )
    assert "198.18.0.1 . tcp . 80 . 203.0.113.0/24," in text
    assert "tcp . 80 . 203.0.113.128/25" not in text
    assert "tcp . 81 . 203.0.113.128/25" in text


def test_what_nft_can_not_match_there_is_refused() -> None:
    with pytest.raises(NetwatchError, match="a bridge's port"):
        _script(Rule(Drop(), (Entered("veth1"),)))


def test_a_hostile_name_stays_in_a_comment_of_one_line() -> None:
    """Documents are named in comments only, and no name breaks out of its line."""
    policies = segment("governs: {app: db}\nrules: [{from: {app: api}, ports: 5432}]")
    ruleset = compile(policies, Snapshot("h", (WEB, API, DB)), now=0)
    text = script(ruleset)
    assert "# enforced: Segment shop/s" in text
    assert text.count("policy accept;") == 6  # three hooks of two families
    assert text.count("198.18.0.2 . tcp . 5432 . 198.18.0.3") == 1

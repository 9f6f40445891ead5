"""The compiled rules and `decide` give the same answer in worlds that nobody thought of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.enforce.test_agreement import (
    assert_agreement,
    assert_doors_agree,
    assert_order_means_nothing,
    denying,
    on_encrypted_links,
    permitting,
)
from tests.unit.enforce.test_share import assert_shares_judge_as_the_host

seeds = st.integers(0, 2**32)
# A world is some 3,000 calls, each judged twice: 40 ms.
worlds = settings(max_examples=max(20, settings.default.max_examples // 10))


@worlds
@given(seeds)
def test_rules_agree_with_decide(seed: int) -> None:
    """One answer for all; only what a remote end alone denies is left to that end's host."""
    assert_agreement(*permitting(seed))


@worlds
@given(seeds)
def test_ports_that_are_kept_from_everybody_agree_with_decide(seed: int) -> None:
    """Denials without isolation, alone and beside documents that isolate."""
    assert_agreement(*denying(seed))


@settings(worlds, max_examples=10)
@given(seeds)
def test_a_rule_for_encrypted_links_compiles_where_the_link_is_protected(seed: int) -> None:
    """Some pairs of one group are joined by such a link and some are not: each gets its answer."""
    assert_agreement(*on_encrypted_links(seed))


@worlds
@given(seeds)
def test_doors_are_judged_as_what_is_behind_them(seed: int) -> None:
    """A call from here to a published port of this host gets the answer of the workload."""
    assert_doors_agree(seed)


@worlds
@given(seeds)
def test_both_shares_together_judge_as_the_host_does(seed: int) -> None:
    """A packet passes exactly if the source's share lets it out and the destination's in."""
    assert_shares_judge_as_the_host(seed)


@worlds
@given(seeds)
def test_same_input_same_digest(seed: int) -> None:
    """The order of documents and of workloads means nothing."""
    assert_order_means_nothing(seed)

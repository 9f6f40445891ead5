"""Whether two sets of documents say the same, wherever they stand."""

from __future__ import annotations

from dataclasses import replace

from netwatch.enforce.verify import differ
from netwatch.policy.ir import Place
from tests.unit.enforce.worlds import allow, chosen, policy

ONE = policy(chosen("app", "api"), isolates_ingress=True, ingress=(allow(),))
ELSEWHERE = Place("other.yaml", 9, 9)


def test_the_place_of_a_document_is_not_what_it_says() -> None:
    moved = replace(ONE, place=ELSEWHERE, ingress=(replace(ONE.ingress[0], place=ELSEWHERE),))
    assert differ([moved], [ONE]) == ()


def test_each_difference_names_its_document() -> None:
    other = replace(ONE, name="other")
    assert differ([ONE, other], [replace(ONE, isolates_egress=True)]) == (
        "NetworkPolicy x/made says something else than what was applied",
        "NetworkPolicy x/other is wanted and was not applied",
    )
    assert differ([], [ONE]) == ("NetworkPolicy x/made is applied and not wanted",)

"""Sentences hold exactly where `decide` says so, and a sentence about nobody fails."""

from __future__ import annotations

import xml.etree.ElementTree as xml

import pytest

from netwatch.policy.assertions import parse_assertions, run
from netwatch.policy.fields import InvalidPolicies
from netwatch.policy.junit import Case, junit

from .worlds import WORLD, segment

POLICIES = (
    *segment("governs: {app: db}\nrules: [{from: {app: api}, ports: 5432}]", "db"),
    *segment("governs: all\negress: isolated\nrules: [{to: {namespace: shop}}]", "out"),
)


def _run(*sentences: str):
    text = "".join(f"- '{sentence}'\n" for sentence in sentences)
    return run(parse_assertions(text, "t.yaml"), POLICIES, WORLD, now=0)


@pytest.mark.parametrize(
    "sentence",
    [
        "api must reach db:5432",
        "shop/api must reach shop/db on 5432",
        "app=api in shop must reach app=db in shop on 5432/tcp",
        "web must not reach db",
        "nothing in shop reaches the internet",
        "nothing in lab reaches db",
        "nothing in shop reaches 203.0.113.9 on 443, 53/udp",
        "rogue must reach web:http",
        "api must not reach db on 5000-5431",
        "the internet must reach web:443",
        "host can not reach db",
        "198.18.0.2 must reach db:5432",
        "tier in (front, back) must not reach anything in pay",
    ],
)
def test_a_sentence_that_holds(sentence: str) -> None:
    (result,) = _run(sentence)
    assert result.passed and result.asked, result.against


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("web must reach db:5432", "Segment shop/db isolates the ingress of shop/db"),
        ("api must not reach db", "Segment shop/db allows shop/api to shop/db on tcp/5432"),
        ("nothing reaches db:5432", "Segment shop/db allows shop/api"),
        ("api must not reach db on 5000-6000", "tcp/5432"),
        ("nothing in lab reaches the internet", "no policy isolates"),
        ("nothing in nowhere reaches the internet", "speaks about nobody"),
        ("app=none must not reach db", "speaks about nobody"),
        ("db must reach db", "speaks about nobody"),
    ],
)
def test_a_sentence_that_does_not_hold_says_why(sentence: str, why: str) -> None:
    (result,) = _run(sentence)
    assert not result.passed and why in result.against[0]


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("- web should talk to db\n", 1, "for example: web must reach db:5432"),
        ("tests:\n  - nothing must not reach db\n", 2, "write: nothing"),
        ("- api must reach db:0\n", 1, "for example 443"),
        ("test: []\n", 1, "did you mean tests?"),
        ("- must reach db\n", 1, "for example"),
    ],
)
def test_what_is_no_sentence_is_refused_with_its_line(text: str, line: int, hint: str) -> None:
    with pytest.raises(InvalidPolicies) as raised:
        parse_assertions(text, "t.yaml")
    assert (raised.value.line, str(raised.value.hint)[: len(hint)]) == (line, hint)


def test_a_name_that_nobody_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidPolicies) as raised:
        _run("api must reach dbb:5432")
    assert raised.value.hint == "did you mean db?"


def test_junit_counts_and_survives_hostile_names() -> None:
    """Markup, quotes and control characters are data; the XML is well formed."""
    report = junit("s", [Case('<a "b"> & \x00', "f", 1), Case("b", "f", 2, "because\nof")])
    suite = xml.fromstring(report).find("testsuite")
    assert suite is not None and suite.attrib["failures"] == "1"
    names = [case.attrib["name"] for case in suite]
    assert names == ['<a "b"> & ?', "b"]

"""What a response of a name server proves, and that anything else proves nothing."""

from __future__ import annotations

import random

import pytest

from netwatch.dissect.dns import Answer, answers, host_name, query_id
from netwatch.dissect.http_host import host_of

API = b"\x03api\x07example\x03com\x00"
CDN = b"\x03cdn\x07example\x03net\x00"
ASKED = b"\xc0\x0c"  # the name in the question, by a pointer


def record(name: bytes, kind: int, data: bytes, *, ttl: int = 60) -> bytes:
    head = kind.to_bytes(2, "big") + b"\x00\x01" + ttl.to_bytes(4, "big")
    return name + head + len(data).to_bytes(2, "big") + data


def response(*records: bytes, name: bytes = API, flags: int = 0x8180, count: int = -1) -> bytes:
    said = len(records) if count < 0 else count
    head = b"".join(n.to_bytes(2, "big") for n in (7, flags, 1, said, 0, 0))
    return head + name + b"\x00\x01\x00\x01" + b"".join(records)


A = record(ASKED, 1, bytes([203, 0, 113, 7]))
ALIAS = record(ASKED, 5, CDN, ttl=20)
FOUND = Answer("api.example.com", "203.0.113.7", 60)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(response(A), (FOUND,), id="an address"),
        pytest.param(
            response(record(ASKED, 28, bytes.fromhex("20010db8") + bytes(11) + b"\x01")),
            (Answer("api.example.com", "2001:db8::1", 60),),
            id="an address of IPv6",
        ),
        pytest.param(
            response(ALIAS, record(CDN, 1, bytes([203, 0, 113, 8]), ttl=300)),
            (Answer("api.example.com", "203.0.113.8", 20),),
            id="an alias: the name that was asked for, for the shorter of both times",
        ),
        pytest.param(
            response(record(CDN, 1, bytes([203, 0, 113, 9]))), (), id="a name nobody asked for"
        ),
        pytest.param(
            response(record(ASKED, 5, API), record(CDN, 1, bytes(4))), (), id="an alias of itself"
        ),
        pytest.param(
            response(record(ASKED, 1, bytes(4), ttl=0xFFFFFFFF)),
            (Answer("api.example.com", "0.0.0.0", 0),),
            id="a time with the highest bit is none",
        ),
        pytest.param(response(A, flags=0x0100), (), id="a question"),
        pytest.param(response(A, flags=0x8183), (), id="no such name"),
        pytest.param(response(A, A[:-2]), (FOUND,), id="cut off in the second record"),
        pytest.param(response(A, count=60_000), (FOUND,), id="more promised than there is"),
        pytest.param(response(A, name=b"\x04<b>x\x00"), (), id="markup is no name"),
        pytest.param(response(A, name=b"\x03a.b\x00"), (), id="a dot inside a label"),
        pytest.param(response(A, name=b"\xc0\x0c"), (), id="a pointer to itself"),
        pytest.param(response(A, name=b"\x00"), (), id="the root"),
        pytest.param(b"\x00" * 11, (), id="too short"),
    ],
)
def test_an_answer_is_what_was_asked_for(message: bytes, expected: tuple[Answer, ...]) -> None:
    assert answers(message) == expected


def test_any_bytes_give_an_answer_and_only_names_that_need_no_escape() -> None:
    """Flipped and cut messages: no exception, and never a character that a page must escape."""
    random_ = random.Random(4)
    whole = response(ALIAS, record(CDN, 1, bytes([203, 0, 113, 8])), A)
    for _ in range(3_000):
        data = bytearray(whole[: random_.randrange(len(whole) + 1)])
        for _ in range(random_.randrange(4)):
            if data:
                data[random_.randrange(len(data))] = random_.randrange(256)
        for answer in answers(bytes(data)):
            assert host_name(answer.name) == answer.name or answer.name[-1].isdecimal()


def test_a_number_and_who_speaks() -> None:
    assert query_id(response(A)) == (7, True)
    assert query_id(response(flags=0x0100)) == (7, False)
    assert query_id(b"\x00") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("API.Example.com.", "api.example.com", id="lower case, no last dot"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="punycode"),
        pytest.param("_dns.resolver.arpa", "_dns.resolver.arpa", id="an underscore"),
        pytest.param("203.0.113.7", None, id="an address"),
        pytest.param("a..b", None, id="an empty label"),
        pytest.param("<script>", None, id="markup"),
        pytest.param("a\nb.example", None, id="a line break"),
        pytest.param("a" * 300, None, id="too long"),
        pytest.param("", None, id="nothing"),
        pytest.param(None, None, id="none"),
    ],
)
def test_a_name_is_one_that_a_server_may_have(text: str | None, name: str | None) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "api.example.com", id="one"
        ),
        pytest.param(b"GET / HTTP/1.1\r\nhost:a.example:8080\r\n\r\n", "a.example", id="a port"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.x\r\nHost: b.x\r\n\r\n", None, id="two"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", None, id="an address"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", None, id="an IPv6 address"),
        pytest.param(b"POST / HTTP/1.1\r\n\r\n\nHost: a.example\r\n", None, id="in the body"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a<b>.example\r\n\r\n", None, id="markup"),
    ],
)
def test_the_host_field_names_the_server(request_: bytes, name: str | None) -> None:
    assert host_of(request_) == name

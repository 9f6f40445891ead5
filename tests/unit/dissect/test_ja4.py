"""JA4 by its published rules; whole reference rows are in tests/golden."""

from __future__ import annotations

import pytest

from netwatch.dissect.hello import ClientHello
from netwatch.dissect.ja3 import ja3
from netwatch.dissect.ja4 import ja4


def hello(**changes) -> ClientHello:
    values = dict(
        version=0x0303,
        ciphers=(0x0A0A, 0x1301, 0xC02F),
        extensions=(0x1A1A, 0x0000, 0x000A, 0x0010, 0x000D),
        server_name="a",
        alpn=(b"h2",),
        groups=(0x2A2A, 29),
        point_formats=b"\x00",
        signature_algorithms=(0x0403, 0x0804),
        versions=(0x3A3A, 0x0304, 0x0303),
    )
    return ClientHello(**{**values, **changes})


@pytest.mark.parametrize(
    "alpn, ends",
    [
        pytest.param((), "00", id="none offered"),
        pytest.param((b"h2", b"http/1.1"), "h2", id="the first counts"),
        pytest.param((b"http/1.1",), "h1", id="first and last character"),
        pytest.param((b"x",), "xx", id="one character is both"),
        pytest.param((b"\xba\xad",), "99", id="beyond ASCII: a 9 for each"),
        pytest.param((b"0\xab",), "09", id="one end beyond ASCII"),
        pytest.param((b"\n\n",), "0a", id="neither letter nor digit: hex digits of the name"),
    ],
)
def test_the_two_characters_of_the_first_alpn(alpn, ends):
    assert ja4(hello(alpn=alpn)).split("_")[0][-2:] == ends


def test_grease_changes_nothing():
    plain = hello(
        ciphers=(0x1301, 0xC02F),
        extensions=(0x0000, 0x000A, 0x0010, 0x000D),
        groups=(29,),
        versions=(0x0304, 0x0303),
    )
    assert ja4(hello()) == ja4(plain)
    assert ja3(hello()) == ja3(plain)


def test_order_changes_ja3_and_not_ja4():
    turned = hello(ciphers=(0xC02F, 0x0A0A, 0x1301))
    assert ja4(turned) == ja4(hello())
    assert ja3(turned) != ja3(hello())


def test_a_hello_without_extensions():
    bare = hello(extensions=(), alpn=(), versions=(), signature_algorithms=())
    assert ja4(bare).startswith("t12i020000_")
    assert ja4(bare).endswith("_000000000000")

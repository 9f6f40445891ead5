"""Filters are libpcap's words; what can not be asked is refused, never silently empty."""

from __future__ import annotations

import ctypes.util

import pytest

from netwatch.capture.packets import RETURN, program_bytes
from netwatch.capture.packets_filter import MOST, BadFilter, compiled

needs_libpcap = pytest.mark.skipif(
    ctypes.util.find_library("pcap") is None, reason="libpcap is missing: install libpcap0.8"
)


@pytest.mark.parametrize("text", ["", "  "])
def test_no_filter_keeps_every_packet(text: str) -> None:
    assert compiled(text, snap=96) == [(RETURN, 0, 0, 96)]


@needs_libpcap
def test_a_filter_keeps_as_much_as_was_asked_for_or_nothing() -> None:
    """libpcap's own length would cut the 64 kB packets of GSO."""
    program = compiled("tcp port 443 and host 198.18.1.12", snap=200_000)
    assert {k for code, _, _, k in program if code == RETURN} == {0, 200_000}
    assert len(program_bytes(program)) == 8 * len(program)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("prot 80", "prot 80", id="no such word", marks=needs_libpcap),
        pytest.param("tcp and", "syntax error", id="half a sentence", marks=needs_libpcap),
        pytest.param("port 99999", "99999", id="no such port", marks=needs_libpcap),
        pytest.param("vlan 5 and tcp", "vlan", id="what the kernel took off"),
        pytest.param("tcp\x00port", "no line", id="a zero byte"),
        pytest.param("tcp\nport 80", "no line", id="two lines"),
        pytest.param("port 1" + " or port 1" * MOST, "no line", id="too long"),
    ],
)
def test_what_is_no_filter_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadFilter) as refused:
        compiled(text)
    assert words in str(refused.value)

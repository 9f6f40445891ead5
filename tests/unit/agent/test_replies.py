"""Which packets are a workload's question or an answer to it: exactly those, and never more."""

from __future__ import annotations

import struct

import pytest

from netwatch.agent.replies import PROGRAM, Seen, payload_of
from netwatch.model.workload import Workload
from tests.unit.dissect.test_dns import ASKED, record, response

WEB = (Workload("a", "shop", "web", "lab", addresses=("198.18.0.2", "2001:db8::2")),)
SERVER, MINE, OTHER = bytes([203, 0, 113, 53]), bytes([198, 18, 0, 2]), bytes([198, 18, 0, 3])
SERVER6, MINE6 = (
    bytes.fromhex("20010db8" + "00" * 11 + "53"),
    bytes.fromhex("20010db8" + "00" * 11 + "02"),
)
DATA = response(record(ASKED, 1, bytes([203, 0, 113, 7])))
TCP_HEAD = bytes(8) + bytes([0x50, 0x18]) + bytes(6)


def packet(
    source: bytes, target: bytes, ports: tuple[int, int], data: bytes, *, tcp: bool = False
):
    inner = struct.pack("!HH", *ports) + (TCP_HEAD if tcp else bytes(4)) + data
    protocol = 6 if tcp else 17
    if len(source) == 16:
        return bytes([0x60, 0, 0, 0, 0, 0, protocol, 64]) + source + target + inner
    return bytes([0x45, *bytes(8), protocol, 0, 0]) + source + target + inner


ANSWER, ANSWER6 = packet(SERVER, MINE, (53, 4000), DATA), packet(SERVER6, MINE6, (53, 4000), DATA)
OVER_TCP = packet(SERVER, MINE, (53, 4000), len(DATA).to_bytes(2, "big") + DATA, tcp=True)
HALF = packet(SERVER, MINE, (53, 4000), (len(DATA) + 1).to_bytes(2, "big") + DATA, tcp=True)
QUESTION = packet(MINE, SERVER, (4000, 53), DATA)


@pytest.mark.parametrize(
    ("data", "leaving", "taken"),
    [
        pytest.param(ANSWER, True, True, id="an answer into the workload"),
        pytest.param(ANSWER6, True, True, id="over IPv6"),
        pytest.param(OVER_TCP, True, True, id="over TCP"),
        pytest.param(HALF, True, False, id="half of it over TCP"),
        pytest.param(ANSWER, False, False, id="an answer that the workload itself makes up"),
        pytest.param(QUESTION, False, True, id="a question out of the workload"),
        pytest.param(QUESTION, True, False, id="a question into it"),
        pytest.param(
            packet(SERVER, OTHER, (53, 4000), DATA), True, False, id="to an address not its own"
        ),
        pytest.param(packet(SERVER, MINE, (54, 4000), DATA), True, False, id="from another port"),
        pytest.param(b"\x45", True, False, id="cut off"),
        pytest.param(ANSWER[:21], True, False, id="cut off in the ports"),
    ],
)
def test_only_what_passed_the_rules_counts(data: bytes, leaving: bool, taken: bool) -> None:
    """A question where it comes out, an answer where it goes in."""
    found = payload_of(Seen(0, "v", leaving, data), WEB)
    assert (found is not None) is taken
    assert found is None or found.data == DATA


def run(data: bytes) -> int:
    """The classic BPF of PROGRAM: how many bytes it keeps."""
    at, a, x = 0, 0, 0
    while True:
        code, true, false, k = PROGRAM[at]
        at += 1
        if code == 0x06:
            return k
        if code == 0xB1:
            x = (data[k] & 15) * 4
        elif code in (0x30, 0x28, 0x48):
            start = k + (x if code == 0x48 else 0)
            a = int.from_bytes(data[start : start + (1 if code == 0x30 else 2)], "big")
        elif code == 0x54:
            a &= k
        else:
            at += true if (a == k if code == 0x15 else a & k) else false


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        pytest.param(ANSWER, True, id="answer"),
        pytest.param(QUESTION, True, id="question"),
        pytest.param(ANSWER6, True, id="answer over IPv6"),
        pytest.param(packet(MINE6, SERVER6, (4000, 53), DATA), True, id="question over IPv6"),
        pytest.param(OVER_TCP, True, id="over TCP"),
        pytest.param(packet(SERVER, MINE, (80, 4000), DATA), False, id="another port"),
        pytest.param(packet(SERVER6, MINE6, (80, 4000), DATA), False, id="another over IPv6"),
        pytest.param(ANSWER[:6] + b"\x00\x10" + ANSWER[8:], False, id="a later fragment"),
        pytest.param(ANSWER[:9] + b"\x01" + ANSWER[10:], False, id="ICMP"),
        pytest.param(bytes([0x06]) + ANSWER[1:], False, id="ARP"),
    ],
)
def test_the_kernel_hands_over_name_servers_packets_only(data: bytes, kept: bool) -> None:
    """The filter, walked by hand."""
    assert bool(run(data)) is kept

"""Conntrack's messages are read as they are laid out, and totals of a tuple never fall."""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

import numpy as np
import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from netwatch.capture.conntrack import Totals, entries_of, translations_of
from netwatch.capture.ctnetlink import DESTROY, NEW, decode, split
from netwatch.capture.sensor import ENTRY

CLIENT, SERVER, REAL = "198.18.0.11", "198.18.0.12", "198.18.1.9"


def mapped(address: str) -> bytes:
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | 0x8000, b"".join(parts))


def side(kind: int, ends: tuple[str, int, str, int], protocol: int) -> bytes:
    source, sport, destination, dport = ends
    six = ":" in source
    raw = [
        socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, a)
        for a in (source, destination)
    ]
    addresses = [attribute(n + (3 if six else 1), data) for n, data in enumerate(raw)]
    ports = [attribute(2, struct.pack("!H", sport)), attribute(3, struct.pack("!H", dport))]
    return nested(kind, nested(1, *addresses), nested(2, attribute(1, bytes([protocol])), *ports))


def message(
    original: tuple[str, int, str, int],
    reply: tuple[str, int, str, int] | None = None,
    *,
    kind: int = NEW,
    protocol: int = 6,
    status: int = 0,
    counters: tuple[int, int, int, int] | None = None,
    extra: bytes = b"",
) -> bytes:
    reply = reply or (original[2], original[3], original[0], original[1])
    body = side(1, original, protocol) + side(2, reply, protocol) + extra
    body += attribute(3, struct.pack("!I", status))
    if counters:
        for number, pair in ((9, counters[:2]), (10, counters[2:])):
            body += nested(
                number, *(attribute(n, struct.pack("!Q", c)) for n, c in enumerate(pair, 1))
            )
    family = socket.AF_INET6 if ":" in original[0] else socket.AF_INET
    head = struct.pack("=IHHIIBBH", 20 + len(body), kind, 0, 0, 0, family, 0, 0)
    return head + body


def test_every_field_is_read_whatever_the_layout() -> None:
    """Mixed lengths, families and attributes that are not known give what each message says."""
    rng = random.Random(7)
    messages, expected = [], set()
    for number in range(500):
        six = rng.random() < 0.3
        client, server = ("2001:db8::1", "2001:db8::2") if six else (CLIENT, SERVER)
        ends = (client, rng.randrange(65536), server, rng.randrange(65536))
        counted = (number, 2, 3, 2**40 + number) if rng.random() < 0.5 else None
        protocol = rng.choice((6, 17))
        extra = rng.choice((b"", attribute(12, b"\1\2\3\4"), attribute(20, bytes(8))))
        messages.append(message(ends, protocol=protocol, counters=counted, extra=extra))
        expected.add((protocol, mapped(client), *ends[1::2], *(counted or (0, 0, 0, 0))))
    found = {
        (
            int(row["protocol"]),
            row["source"][0].tobytes(),
            int(row["source_port"][0]),
            int(row["destination_port"][0]),
            int(row["packets"][0]),
            int(row["bytes"][0]),
            int(row["packets"][1]),
            int(row["bytes"][1]),
        )
        for row in decode(messages)
    }
    assert found == expected


def test_it_reads_what_pyroute2_reads() -> None:
    """An independent decoder sees the same address, port, status and counters."""
    raw = message((CLIENT, 40_000, SERVER, 80), status=0x1B8, counters=(5, 600, 4, 700))
    (row,) = decode([raw])
    other = nfct_msg(raw)
    other.decode()
    assert other.get_attr("CTA_STATUS") == row["status"]
    counted = other.get_attr("CTA_COUNTERS_REPLY")
    assert counted.get_attr("CTA_COUNTERS_BYTES") == row["bytes"][1] == 700
    ends = other.get_attr("CTA_TUPLE_ORIG").get_attr("CTA_TUPLE_IP")
    assert ends.get_attr("CTA_IP_V4_SRC") == CLIENT
    assert row["source"][0].tobytes() == mapped(CLIENT)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(20), id="zeros"),
        pytest.param(message((CLIENT, 1, SERVER, 2))[:50], id="cut"),
        pytest.param(b"\xff" * 200, id="all ones"),
    ],
)
def test_damaged_messages_give_an_empty_row_or_none(raw: bytes) -> None:
    rows = decode([raw])
    assert len(rows) <= 1
    assert [kind for kind, _ in split(raw)] == [] or len(raw) >= 16


def test_a_rewritten_connection_is_a_translation_and_no_other_is() -> None:
    rows = decode(
        [
            message((CLIENT, 4000, SERVER, 80), (REAL, 8080, CLIENT, 4000), status=0x20),
            message((CLIENT, 4001, SERVER, 80)),
        ]
    )
    (found,) = translations_of(rows)
    assert found.original == (mapped(CLIENT), 4000, mapped(SERVER), 80)
    assert found.reply == (mapped(REAL), 8080, mapped(CLIENT), 4000)


def entries(*messages: bytes) -> Any:
    return entries_of(decode(messages))


@pytest.mark.parametrize(
    ("ends", "low_is_client"),
    [
        pytest.param((CLIENT, 9, SERVER, 80), 1, id="client is low"),
        pytest.param((SERVER, 9, CLIENT, 80), 0, id="client is high"),
        pytest.param((CLIENT, 81, CLIENT, 80), 0, id="one address, ports decide"),
        pytest.param(("2001:db8::2", 9, "2001:db8::1", 80), 0, id="IPv6"),
    ],
)
def test_entries_are_in_canonical_order(
    ends: tuple[str, int, str, int], low_is_client: int
) -> None:
    """The low end is the smaller (address, port); counters follow their end."""
    (entry,) = entries(message(ends, counters=(3, 300, 2, 200), status=2))
    low = (entry["low"].tobytes(), int(entry["low_port"]))
    high = (entry["high"].tobytes(), int(entry["high_port"]))
    assert low < high
    assert entry["low_is_client"] == low_is_client
    assert entry["packets"][1 - low_is_client] == 3
    assert entry["bytes"][low_is_client] == 200


def test_loopback_is_left_out() -> None:
    assert len(entries(message(("127.0.0.1", 1, "127.0.0.1", 2)))) == 0
    assert len(entries(message(("::1", 1, "::1", 2)))) == 0


def test_totals_go_on_over_connections_that_use_the_same_ports() -> None:
    """They never fall, and an ended connection is counted once."""
    totals, none = Totals(), np.zeros(0, ENTRY)
    ends = (CLIENT, 4000, SERVER, 80)
    second = 10**9

    def one(packets: int, kind: int = NEW) -> Any:
        return entries(message(ends, kind=kind, status=2, counters=(packets, 60, packets, 60)))

    assert totals.add(none, one(5), second)["packets"].tolist() == [[5, 5]]
    (row,) = totals.add(none, none, 2 * second)  # ended; its event is still to come
    assert row["packets"].tolist() == [5, 5]
    (row,) = totals.add(one(7, DESTROY), one(2), 3 * second)
    assert row["packets"].tolist() == [9, 9]
    assert (row["opened"], row["first"][0], row["last"][0]) == (2, second, 3 * second)
    life = row["life"]
    (row,) = totals.add(one(2, DESTROY), none, 4 * second)
    assert (row["packets"].tolist(), row["life"]) == ([9, 9], life)
    assert len(totals.add(none, none, 100 * second)) == 1
    assert len(totals.add(none, none, 101 * second)) == 0
    (row,) = totals.add(none, one(1), 102 * second)
    assert row["packets"].tolist() == [1, 1]
    assert row["life"] != life

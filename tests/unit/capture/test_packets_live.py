"""The table of a live capture says what the packets say, and never more."""

from __future__ import annotations

import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from netwatch.capture import packets_live
from netwatch.capture.packets import RECORD
from netwatch.capture.packets_live import Conversation, Live, conversation_as_json
from tests.unit.dissect.handshakes import certificate, handshake

WEB, API, FAR = "198.18.1.10", "198.18.1.11", "203.0.113.9"
NAMES = {WEB: "shop/web", API: "shop/api"}
SYN, SYNACK, ACK, RST = 0x02, 0x12, 0x10, 0x14


def packet(
    source: str,
    destination: str,
    ports: tuple[int, int],
    flags: int | None = None,
    payload: bytes = b"",
    seq: int = 1,
) -> bytes:
    """One pcap record: TCP with these flags, or UDP without."""
    if flags is None:
        body = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    else:
        body = struct.pack(">HHIIBBHHH", *ports, seq, 0, 0x50, flags, 999, 0, 0) + payload
    ends = [bytes(map(int, end.split("."))) for end in (source, destination)]
    protocol = 17 if flags is None else 6
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0, *ends)
    frame = bytes(12) + b"\x08\x00" + ip + body
    return RECORD.pack(1_700_000_000, 0, len(frame), len(frame)) + frame


def opened(client: str, server: str, ports: tuple[int, int]) -> list[bytes]:
    back = ports[::-1]
    return [
        packet(client, server, ports, SYN, seq=0),
        packet(server, client, back, SYNACK, seq=0),
        packet(client, server, ports, ACK),
    ]


def seen(*records: bytes, seconds: float = 1.0) -> dict[tuple[str, str, Any], Conversation]:
    live = Live([WEB], NAMES)
    live.add(records)
    return {(c.peer, c.direction, c.port): c for c in live.conversations(seconds)}


def test_peers_have_names_and_conversations_directions() -> None:
    """Out where the workload is the client, in where the peer is; no name means its address."""
    found = seen(
        *opened(WEB, API, (40_000, 5432)),
        *opened(FAR, WEB, (50_000, 443)),
        *opened(FAR, API, (50_001, 80)),
    )
    assert set(found) == {
        ("shop/api", "out", 5432),
        (FAR, "in", 443),
        (f"{FAR} to shop/api", "other", 80),
    }
    assert not any(c.guessed for c in found.values())


def test_connections_of_one_kind_are_one_line_with_their_states() -> None:
    refused = [
        packet(WEB, API, (40_002, 80), SYN, seq=0),
        packet(API, WEB, (80, 40_002), RST, seq=0),
    ]
    found = seen(*opened(WEB, API, (40_000, 80)), *opened(WEB, API, (40_001, 80)), *refused)
    (line,) = found.values()
    assert (line.connections, line.state) == (3, "established 2, refused 1")


def test_a_rate_is_of_the_time_since_the_last_look() -> None:
    """And a total is since the beginning."""
    live = Live([WEB], NAMES)
    live.add([packet(WEB, API, (4000, 53), payload=bytes(972))])
    (first,) = live.conversations(2.0)
    (second,) = live.conversations(1.0)
    live.add([packet(API, WEB, (53, 4000), payload=bytes(472))])
    (third,) = live.conversations(0.5)
    assert [c.rate for c in (first, second, third)] == [500.0, 0.0, 1000.0]
    assert [c.bytes for c in (first, second, third)] == [1000, 1000, 1500]


def test_encryption_is_said_of_a_line_only_where_all_of_it_proves_the_same(
    tmp_path: Path,
) -> None:
    """One connection whose start nobody saw makes it not known."""
    client, server = handshake(certificate(tmp_path / "pem"), ssl.TLSVersion.TLSv1_3)
    proven = [
        *opened(WEB, API, (40_000, 443)),
        packet(WEB, API, (40_000, 443), ACK, client),
        packet(API, WEB, (443, 40_000), ACK, server),
    ]
    (line,) = seen(*proven).values()
    assert line.encryption == "TLSv1.3"
    both = seen(*proven, *opened(WEB, API, (40_001, 443)))
    (line,) = both.values()
    assert line.encryption == "TLSv1.3 1, unknown 1"


def test_memory_is_bounded_and_what_went_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts afresh, and rates stay those of the packets."""
    monkeypatch.setattr(packets_live, "MOST_CONNECTIONS", 10)
    live = Live([WEB], NAMES)
    live.add([packet(WEB, API, (port, 53)) for port in range(2000, 2011)])
    (line,) = live.conversations(1.0)
    assert (line.connections, live.forgotten) == (11, 11)
    live.add([packet(WEB, API, (2000, 53))])
    (line,) = live.conversations(1.0)
    assert (line.connections, line.rate, live.forgotten) == (1, 28.0, 11)


def test_the_busiest_is_first() -> None:
    found = seen(
        packet(WEB, API, (4000, 53)),
        packet(WEB, FAR, (4000, 123), payload=bytes(500)),
        packet(WEB, API, (4000, 514), payload=bytes(50)),
    )
    assert [port for _, _, port in found] == [123, 514, 53]


def test_nothing_seen_is_no_lines() -> None:
    assert seen() == {}


def test_json_has_every_key() -> None:
    (line,) = seen(packet(WEB, API, (4000, 53))).values()
    told = conversation_as_json(line)
    assert set(told) == {
        "peer",
        "direction",
        "guessed",
        "port",
        "protocol",
        "encryption",
        "bytes_per_second",
        "bytes",
        "connections",
        "state",
    }

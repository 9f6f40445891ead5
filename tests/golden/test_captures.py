"""The captures of two public test suites: what their authors state is what we must say.

A difference is allowed only where `captures.json` explains it, by file and by what differs, and an
explanation that is no longer needed must go. Nothing excuses "encrypted" where the source says
that the conversation is in the clear.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pytest

from netwatch.capture.files.reading import read
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Encryption, Flow

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "pcaps"
EXPLAINED = json.loads((Path(__file__).parent / "captures.json").read_text())

pytestmark = pytest.mark.skipif(
    not DATA.exists(), reason="the captures of ../shared/data/pcaps are not on this machine"
)

# What the source calls it, and where we say it.
STATED = {
    "tls_version": "version",
    "cipher": "cipher",
    "sni": "server_name",
    "alpn": "alpn",
    "ja3": "ja3",
    "ja3s": "ja3s",
    "ja4": "ja4",
}
A_DAY = 86_400

# The source says "not encrypted" of every conversation of these protocols. In these two the bytes
# show otherwise: the client asks for TLS (CLIENT_SSL; PROTOCOL_SSL), the server grants it, both
# hellos, ChangeCipherSpec and sealed records follow.
SWITCHED_TO_TLS = {("ndpi__mysql.pcapng", 36272), ("ndpi__rdp.pcap", 52494)}


@cache
def flows(name: str) -> tuple[Flow, ...]:
    try:
        with (DATA / name).open("rb") as stream:
            return tuple(read(stream, name).flows())
    except NetwatchError:
        return ()


def facts() -> list[dict]:
    return [json.loads(line) for line in (DATA / "facts.jsonl").read_text().splitlines()]


def matching(fact: dict) -> list[Flow]:
    """Our flows of the fact's addresses and ports; the source never splits one, we may."""
    wanted = {(_address(fact["src"]), fact["sport"]), (_address(fact["dst"]), fact["dport"])}
    return [
        flow
        for flow in flows(fact["file"])
        if flow.protocol == fact["proto"].lower()
        and {
            (flow.client.address, flow.client.port or 0),
            (flow.server.address, flow.server.port or 0),
        }
        == wanted
    ]


def _address(text: str) -> str:
    # The source shortens a single group of zeros, which RFC 5952 forbids.
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def sent(found: list[Flow], address: str, port: int) -> tuple[int, int]:
    """Packets and IP bytes from one end."""
    packets = octets = 0
    for flow in found:
        if (flow.client.address, flow.client.port or 0) == (address, port):
            packets, octets = packets + flow.client_packets, octets + flow.client_bytes
        else:
            packets, octets = packets + flow.server_packets, octets + flow.server_bytes
    return packets, octets


def judged(fact: dict) -> Iterator[tuple[str, bool]]:
    """Each thing that the source states of a flow, and whether we say the same."""
    found = matching(fact)
    yield "flow", bool(found)
    if not found:
        return
    for side, port, prefix in (("src", "sport", "src"), ("dst", "dport", "dst")):
        packets, octets = sent(found, _address(fact[side]), fact[port])
        yield "packets", packets == fact[f"{prefix}_pkts"]
        # Frames have a link header (none on raw links, 62 bytes is the longest) and padding.
        more = fact[f"{prefix}_frame_bytes"] - octets
        yield "bytes", 0 <= more <= 66 * packets
    said = [flow.encryption for flow in found]
    for stated, ours in STATED.items():
        if stated in fact:
            yield stated, fact[stated] in [_stated(each, ours) for each in said]
    if "alpn_offered" in fact:
        offered = fact["alpn_offered"].split(";")
        yield "alpn_offered", offered in [list(each.alpn_offered) for each in said]
    if "cert_not_after_tz_local" in fact:
        until = fact["cert_not_after_tz_local"]
        ends = [each.certificate.not_after // 10**9 for each in said if each.certificate]
        yield "certificate", any(abs(end - until) <= A_DAY for end in ends)


def _stated(encryption: Encryption, ours: str) -> str | None:
    # QUIC's version is what we say; the handshake in it is TLS 1.3 (RFC 9001 section 4.2).
    if ours == "version" and encryption.protocol == "quic" and encryption.ja4:
        return "TLSv1.3"
    return getattr(encryption, ours)


def reference() -> Iterator[tuple[str, str, bool]]:
    """JA4 of each stream in the fingerprint's own test data."""
    for each in json.loads((DATA / "ja4.json").read_text()):
        for row in each["expected"]["rows"]:
            if "JA4.1" in row:
                port = int(row["srcport"])
                ours = {f.encryption.ja4 for f in flows(each["file"]) if f.client.port == port}
                yield each["file"], "ja4", row["JA4.1"] in ours


def test_what_the_sources_state_is_what_we_say():
    """Every difference is explained, and every explanation is still needed."""
    right, differs = 0, defaultdict(int)
    rows = [(fact["file"], what, good) for fact in facts() for what, good in judged(fact)]
    for file, what, good in [*rows, *reference()]:
        if good:
            right += 1
        else:
            differs[file, what] += 1
    total = right + sum(differs.values())
    print(f"{right} of {total} statements: {100 * right / total:.1f} %")
    explained = {(file, what): n for file, each in EXPLAINED.items() for what, n in each.items()}
    explained = {key: n for key, n in explained.items() if key[1] != "why"}
    assert dict(differs) == explained


def test_never_encrypted_where_the_source_says_plaintext():
    wrong = [
        (fact["file"], fact["sport"])
        for fact in facts()
        if not fact["encrypted"]
        for flow in matching(fact)
        if flow.encryption.status == "encrypted"
    ]
    assert set(wrong) == SWITCHED_TO_TLS


def test_every_explanation_says_why():
    assert [file for file, each in EXPLAINED.items() if not each.get("why")] == []

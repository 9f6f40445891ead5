"""The captures of two public test suites: what their authors state is what we must say.

A difference is allowed only where `captures.json` explains it, by file and by what differs, and an
explanation that is no longer needed must go. Where a source counts or writes by a rule of its own,
its statement is read by that rule; the rules are in `captures.json`, too, and what agrees only by
one of them is counted apart. Nothing excuses "encrypted" where the source says that the
conversation is in the clear.
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
TABLE = json.loads((Path(__file__).parent / "captures.json").read_text())
EXPLAINED, RULES = TABLE["files"], TABLE["rules"]
# Of the statements; word for word, or by the source's own rules.
LEAST = 0.99

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
    """Our flows of the fact's addresses, ports and VLAN; the source never splits one, we may."""
    wanted = {_end(fact, "src"), _end(fact, "dst")}
    return [
        flow
        for flow in flows(fact["file"])
        if flow.protocol == fact["proto"].lower()
        and wanted == {(end.address, _port(fact, end.port)) for end in (flow.client, flow.server)}
        and ("vlan" not in fact or fact["vlan"] in flow.vlan)
    ]


def _end(fact: dict, side: str) -> tuple[str, int]:
    return _address(fact[side]), fact["sport" if side == "src" else "dport"]


def _port(fact: dict, port: int | None) -> int:
    # Rule "ports": the source has none of SCTP.
    return 0 if port is None or fact["proto"] == "SCTP" else port


def _address(text: str) -> str:
    # The source shortens a single group of zeros, which RFC 5952 forbids.
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def sent(found: list[Flow], fact: dict, side: str) -> tuple[int, int]:
    """Packets and IP bytes from one end; of a flow from an end to itself, the source has one."""
    packets = octets = 0
    for flow in found:
        if flow.client == flow.server:
            ours = flow.client_packets + flow.server_packets, flow.client_bytes + flow.server_bytes
            ours = ours if side == "src" else (0, 0)
        elif (flow.client.address, _port(fact, flow.client.port)) == _end(fact, side):
            ours = flow.client_packets, flow.client_bytes
        else:
            ours = flow.server_packets, flow.server_bytes
        packets, octets = packets + ours[0], octets + ours[1]
    return packets, octets


def judged(fact: dict) -> Iterator[tuple[str, str | bool]]:
    """Each thing that the source states of a flow, and whether we say the same: True, False, or
    the rule by which we do.
    """
    found = matching(fact)
    yield "flow", bool(found) and ("ports" if fact["proto"] == "SCTP" else True)
    if not found:
        return
    if "vlan" in fact:
        yield "vlan", all(flow.vlan[-1] == fact["vlan"] for flow in found)
    for side in ("src", "dst"):
        packets, octets = sent(found, fact, side)
        yield "packets", packets == fact[f"{side}_pkts"]
        more = fact[f"{side}_frame_bytes"] - octets
        yield "bytes", _framed(more, packets, max(len(flow.tunnel) for flow in found))
    said = [flow.encryption for flow in found]
    for stated, ours in STATED.items():
        if stated in fact:
            yield stated, _same(stated, fact[stated], [_stated(each, ours) for each in said])
    if "alpn_offered" in fact:
        offered = fact["alpn_offered"].split(";")
        yield "alpn_offered", offered in [list(each.alpn_offered) for each in said]
    if "cert_not_after_tz_local" in fact:
        until = fact["cert_not_after_tz_local"]
        ends = [each.certificate.not_after // 10**9 for each in said if each.certificate]
        yield "certificate", any(abs(end - until) <= A_DAY for end in ends)


def _framed(more: int, packets: int, tunnels: int) -> str | bool:
    """Whether so many bytes more may be those of headers around the IP packets."""
    # Frames have a link header (none on raw links, 62 bytes is the longest) and padding.
    if 0 <= more <= 66 * packets:
        return True
    # The longest that is in use: Ethernet, VLAN, IPv6, UDP and Geneve with its options.
    return 0 <= more <= (66 + tunnels * 130) * packets and "tunnels"


def _same(what: str, stated: str, ours: list[str | None]) -> str | bool:
    if stated in ours:
        return True
    if what == "ja4" and any(each and _alike(stated, each) for each in ours):
        return "ja4"
    return False


def _alike(stated: str, ours: str) -> bool:
    """JA4 but for what the source writes by its own rule: SNI, second character of ALPN, zeros."""
    stated = stated.replace("_e3b0c44298fc", "_000000000000")
    return (stated[:3], stated[4:9], stated[10:]) == (ours[:3], ours[4:9], ours[10:])


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
    """Every difference is explained, every explanation is still needed, and they are few."""
    rows = [(fact["file"], what, good) for fact in facts() for what, good in judged(fact)]
    rows += reference()
    right, differs, ruled = 0, defaultdict(int), defaultdict(int)
    for file, what, good in rows:
        if good is True:
            right += 1
        elif good:
            ruled[good] += 1
        else:
            differs[file, what] += 1
    agree = right + sum(ruled.values())
    print(f"{len(rows)} statements: {right} word for word ({100 * right / len(rows):.2f} %),")
    print(f"{agree} with those by the source's own rules ({100 * agree / len(rows):.2f} %)")
    explained = {(file, what): n for file, each in EXPLAINED.items() for what, n in each.items()}
    explained = {key: n for key, n in explained.items() if key[1] != "why"}
    assert dict(differs) == explained
    assert dict(ruled) == {rule: each["statements"] for rule, each in RULES.items()}
    assert agree >= LEAST * len(rows)


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
    everything = {**EXPLAINED, **RULES}
    assert [name for name, each in everything.items() if not each.get("why")] == []

"""Search over flows by any field, and what is refused before anything is searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from netwatch.controller.columns import Named
from netwatch.controller.history import History
from netwatch.controller.records import FlowQuery
from netwatch.controller.search import FIELDS, parse, term
from netwatch.model.errors import UsageError
from netwatch.model.flow import Certificate, Encryption, Endpoint, Process
from netwatch.model.link import Link
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from tests.unit.controller.samples import PLAIN, START, flow

WEB_TLS = Encryption(
    "encrypted", "handshake", "tls", "TLSv1.2", "TLS_AES_128_GCM_SHA256", "x25519",
    server_name="API.example", alpn="h2", ja3="a" * 32, ja4="t13d",
    certificate=Certificate("CN=api", "CN=acme", 0, 1, "ff", "rsa", 2048),
)  # fmt: skip
CURL = Process(10, "/usr/bin/curl", 0, "root")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Client port 1: TLS to a server outside, judged late. 2: plaintext from IPv6. 3: denied."""
    opened = History(tmp_path_factory.mktemp("search") / "history.db")
    outside = Endpoint("203.0.113.9", 443, None, None, "db.example", "dns")
    early = flow(sport=1, server=outside, encryption=Encryption(), first_seen=START)
    early = replace(early, original=Endpoint("198.18.9.9", 8443), state="one-way")
    late = replace(early, encryption=WEB_TLS, state="established", last_seen=START + SECOND)
    late = replace(late, client=replace(late.client, process=CURL), link=Link("none"))
    six = flow(sport=2, encryption=PLAIN, client=Endpoint("2001:db8::5", 2), protocol="udp")
    denied = flow(
        sport=3, verdict="deny", staged="allow", direction="guessed", last_seen=START - 5
    )
    flows = [(early, "a/shop/web"), (late, "a/shop/web"), (six, "host:a"), (denied, "a/bank/x")]
    named = [Named(f, source, "external:203.0.113.9", 443, None) for f, source in flows]
    opened.append(Report("a", "boot", 1, START - SECOND, START), named, START)
    yield opened
    opened.close()


FOUND = {
    'encryption.server_name ~ "api"': {1},
    "encryption.version = TLSv1.2 and client.port < 2": {1},
    "certificate.issuer ~ ACME": {1},
    "encryption.version = null": {2},
    "encryption = plaintext": {2},
    "address in 2001:db8::/32": {2},
    "address in 203.0.113.0/24": {1},
    "address in 198.18.9.0/24": {1},
    "original.address = 198.18.9.9": {1},
    "address != 2001:db8:0::5": {1, 3},
    "namespace = bank": {3},
    "namespace = null": {1, 2, 3},
    "workload = host:a and protocol = udp": {2},
    "state = one-way": set(),
    "client.process ~ curl": {1},
    "link = none": {1},
    "name = db.example": {1},
    "verdict != deny": {1, 2},
    "staged = allow and direction = guessed": {3},
    "server.port = 443": {1},
    "client_bytes = 1200": {1},
    "last_seen > 2023-11-14T22:13:20Z": {1},
    "connections >= 1 and host = a": {1, 2, 3},
}  # fmt: skip


@pytest.mark.parametrize("where", FOUND)
def test_a_search_finds_what_fits_as_it_is_shown(history: History, where: str) -> None:
    """A conversation is judged as a whole: what only an early delta said is not what it is."""
    found, _ = history.flows(FlowQuery(where=where))
    expected = FOUND[where]
    assert {f.client.port for f in found} == expected


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_can_be_searched(history: History, name: str) -> None:
    """With a value of its kind that nothing has, or before which nothing was."""
    value = {"number": "= 4611686018427387903", "time": "< 1990-01-01T00:00:00Z"}
    wanted = value.get(FIELDS[name].kind, "= 192.0.2.77" if "address" in name else "= nothing")
    assert history.flows(FlowQuery(where=f"{name} {wanted}"))[0] == []


HOSTILE = "x' or 1=1; drop table flows; --"


def test_a_value_is_never_sql(history: History) -> None:
    assert history.flows(FlowQuery(where=term("host", HOSTILE)))[0] == []
    assert parse(term("host", 'a"b\\c'))[0].value == 'a"b\\c'
    assert len(history.flows(FlowQuery())[0]) == 3


@pytest.mark.parametrize(
    ("where", "said"),
    [
        pytest.param("sever.port = 1", "did you mean server.port?", id="a field that is none"),
        pytest.param("client.port = x", "a whole number", id="no number"),
        pytest.param("client.port ~ 4", "known: = != < <= > >=", id="an operator of another kind"),
        pytest.param("address = web", "an address", id="no address"),
        pytest.param("last_seen > now", "a time like", id="no time"),
        pytest.param("host = a or host = b", "like: ", id="there is no or"),
        pytest.param("host = a and", "like: ", id="and nothing"),
        pytest.param(f"host = {HOSTILE}", "like: ", id="SQL"),
    ],
)
def test_what_is_wrong_with_a_search_is_said(history: History, where: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        history.flows(FlowQuery(where=where))
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_pages_of_a_search_hold_each_flow_once(history: History) -> None:
    """The cursor goes on where the page ended, in whichever window that was."""
    seen, cursor = [], None
    for _ in range(3):
        page, cursor = history.flows(FlowQuery(where="host = a", limit=1, cursor=cursor))
        seen += [f.client.port for f in page]
    assert sorted(p for p in seen if p) == [1, 2, 3] and cursor is None

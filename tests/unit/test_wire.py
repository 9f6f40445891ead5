"""What is packed comes back whole; what is no report is refused, small or large."""

from __future__ import annotations

import msgspec
import pytest
import zstandard

from netwatch import wire
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.policy_version import Document, Wanted
from netwatch.model.report import Capture, Enforcement, Report
from netwatch.model.workload import DocumentedPort, Label, Workload
from netwatch.wire import MAX_DECODED, BadReport

EMPTY = Report("a", "boot", 1, 2, 3)
FULL = Report(
    host="a",
    boot="boot",
    sequence=2**63 - 1,
    started=1_700_000_000_000_000_000,
    ended=1_700_000_001_000_000_000,
    workloads=(
        Workload(
            "a",
            "shop",
            "wéb\n",
            "docker",
            labels=(Label("app", "web", "own"),),
            addresses=("198.18.0.2", "2001:db8::2"),
            ports=(DocumentedPort(443, "tcp", "image"),),
        ),
    ),
    flows=(
        Flow(
            client=Endpoint("198.18.0.2", 40_000, "a/shop/web"),
            server=Endpoint("198.51.100.2", 443),
            protocol="tcp",
            first_seen=1,
            last_seen=2,
            client_bytes=2**62,
            encryption=Encryption("encrypted", "handshake", "tls", "TLSv1.3"),
        ),
    ),
    losses=(("ring-full", 7),),
    capture=Capture("tcx", ("veth1",), None),
    enforcement=Enforcement("nft", "00ff", ("shop",), (), ("a rule is gone",)),
    addresses=("192.0.2.1",),
    version="0.1.0",
)


@pytest.mark.parametrize(
    "report", [pytest.param(EMPTY, id="empty"), pytest.param(FULL, id="full")]
)
def test_a_report_comes_back_as_it_was(report: Report) -> None:
    assert wire.unpack(wire.pack(report)) == report


def packed(value: object) -> bytes:
    return zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(value))


def changed(**parts: object) -> bytes:
    return packed(msgspec.to_builtins(EMPTY) | parts)


def bomb(size: int, *, claimed: bool) -> bytes:
    """Zeros that unpack to `size` bytes, with or without saying so in the header."""
    compressor = zstandard.ZstdCompressor(write_content_size=claimed)
    if claimed:
        return compressor.compress(bytes(size))
    stream = compressor.compressobj()
    return stream.compress(bytes(size)) + stream.flush()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(wire.pack(FULL)[:-5], id="cut short"),
        pytest.param(zstandard.ZstdCompressor().compress(b"\xc1"), id="no MessagePack"),
        pytest.param(packed([]), id="another shape"),
        pytest.param(packed({"host": "a"}), id="fields are missing"),
        pytest.param(changed(sequence="1"), id="a number as text"),
        pytest.param(changed(flows=[{"client": 1}]), id="a flow of another shape"),
        pytest.param(changed(host=b"\xff"), id="bytes for text"),
        pytest.param(bomb(MAX_DECODED + 1, claimed=True), id="larger than allowed, and says so"),
        pytest.param(bomb(MAX_DECODED + 1, claimed=False), id="larger than it says"),
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(BadReport) as caught:
        wire.unpack(data)
    assert caught.value.code == "bad-report"


def test_a_report_of_another_schema_says_which_end_to_update() -> None:
    with pytest.raises(BadReport, match="schema 99") as caught:
        wire.unpack(changed(schema=99))
    assert "update" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(None, id="no wish"),
        pytest.param(Wanted(3, 2, "00ff", None, None), id="what is held"),
        pytest.param(Wanted(3, 2, "00ff", 1.5, (Document("é.yaml", "a: b\n"),)), id="documents"),
    ],
)
def test_an_answer_comes_back_as_it_was(wanted: Wanted | None) -> None:
    answer = wire.Answer(ok=True, new=False, policies=wanted)
    assert wire.unpack_answer(wire.pack_answer(answer)) == answer


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b'{"ok": true, "new": true, "policies": 7}']
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadReport):
        wire.unpack_answer(data)


def test_an_older_controller_wants_nothing() -> None:
    """Its answer has no policies."""
    assert wire.unpack_answer(b'{"ok": true, "new": true}').policies is None

"""What must raise a finding, and what must not: one table for each detector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netwatch.detect import DETECTORS, FleetState
from netwatch.detect.denied import BURST, denied_burst
from netwatch.detect.forged import forged_sender
from netwatch.detect.obligation import obligation_violated
from netwatch.detect.plaintext import plaintext_across_hosts
from netwatch.detect.ports import undocumented_port
from netwatch.detect.silence import silent_agent
from netwatch.detect.skew import clock_skew
from netwatch.model.denial import Denial
from netwatch.model.edge import Edge, Peer
from netwatch.model.host import HostState
from netwatch.model.probe import Disagreement
from netwatch.model.repair import Repair
from netwatch.model.report import Enforcement
from netwatch.model.times import SECOND
from netwatch.model.workload import DocumentedPort, Workload

NOW = 1_700_000_000 * SECOND
REPAIR = Repair(NOW - SECOND, NOW, ("IPv4: the jump to NW-IN is missing from INPUT",), ("sh",))
DB = Workload("b", "shop", "db", "netns", ports=(DocumentedPort(5432, "tcp", "image"),))
WEB_PEER = Peer("workload", "web", "shop", "a")
DB_PEER = Peer("workload", "db", "shop", "b")
HOST_PEER = Peer("host", "b", host="b")
OUTSIDE = Peer("external", "192.0.2.1")
EDGE = Edge(
    source=WEB_PEER,
    destination=DB_PEER,
    protocol="tcp",
    port=9999,
    connections=3,
    bytes=100,
    first_seen=NOW - SECOND,
    last_seen=NOW,
    encryption="plaintext",
    states=("established",),
)
DENIAL = Denial(
    source=WEB_PEER.id,
    destination=DB_PEER.id,
    protocol="tcp",
    port=22,
    kind="denied",
    document="Segment shop/db",
    file="db.yaml",
    line=7,
    count=BURST,
    first=NOW - SECOND,
    last=NOW,
)
FORGED = replace(DENIAL, kind="spoofed", source=DB_PEER.id, claimed="198.18.0.7", document=None)
HOST = HostState("a", enrolled=NOW, first_report=NOW, last_report=NOW, interval=SECOND)


def state(*edges: Edge, **changes: Any) -> FleetState:
    return replace(FleetState(workloads={DB.identity: DB}, edges=edges), **changes)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({}, True, id="established, nobody documented it"),
        pytest.param({"states": ("reset",)}, True, id="was open, ended by a reset"),
        pytest.param({"states": ("established", "unanswered")}, True, id="answered at least once"),
        pytest.param({"source": OUTSIDE}, True, id="from outside"),
        pytest.param({"source": HOST_PEER}, True, id="from a host"),
        pytest.param({"protocol": "udp", "port": 53}, True, id="udp service"),
        pytest.param({"port": 40_000}, True, id="tcp at a high port: the SYN proves the server"),
        pytest.param({"documented": "image"}, False, id="documented"),
        pytest.param({"states": ("unanswered",)}, False, id="unanswered scan"),
        pytest.param({"states": ("refused",)}, False, id="refused"),
        pytest.param({"states": ("one-way",)}, False, id="one-way"),
        pytest.param({"direction": "guessed"}, False, id="guessed direction"),
        pytest.param({"protocol": "udp", "port": 40_000}, False, id="udp answer to a client"),
        pytest.param({"destination": HOST_PEER}, False, id="a host is no workload"),
        pytest.param({"destination": OUTSIDE}, False, id="nor is the internet"),
        pytest.param({"port": None, "protocol": "icmp"}, False, id="icmp has no ports"),
        pytest.param(
            {"destination": replace(DB_PEER, name="stranger")}, False, id="workload never reported"
        ),
    ],
)
def test_undocumented_port(changes: dict[str, Any], found: bool) -> None:
    assert bool(list(undocumented_port(state(replace(EDGE, **changes)), NOW))) is found


def test_a_port_is_one_finding_with_every_client_as_evidence() -> None:
    other = replace(EDGE, source=OUTSIDE, last_seen=NOW + 1)
    (finding,) = undocumented_port(state(EDGE, other), NOW)
    assert finding.subject == "b/shop/db:tcp/9999"
    assert [e["edge"] for e in finding.evidence] == [other.id, EDGE.id]
    assert finding.evidence[0]["documented_ports"] == ["tcp/5432 (image)"]
    assert "2 peers" in finding.title and finding.workloads == ("b/shop/db",)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({}, True, id="plaintext between two hosts"),
        pytest.param({"documented": "image"}, True, id="documentation makes it no better"),
        pytest.param({"encryption": "unknown"}, False, id="unknown is not plaintext"),
        pytest.param({"encryption": "encrypted"}, False, id="encrypted"),
        pytest.param({"direction": "guessed"}, False, id="guessed direction"),
        pytest.param({"source": replace(WEB_PEER, host="b")}, False, id="stays on one host"),
        pytest.param({"source": OUTSIDE}, False, id="one end is no workload"),
        pytest.param({"link": "proven wireguard"}, False, id="the link is proven to encrypt"),
        pytest.param({"link": "claimed wireguard"}, True, id="it only claims to"),
        pytest.param({"link": "unknown"}, True, id="nobody knows"),
        pytest.param({"link": "none"}, True, id="nothing encrypts"),
    ],
)
def test_plaintext_across_hosts(changes: dict[str, Any], found: bool) -> None:
    assert bool(list(plaintext_across_hosts(state(replace(EDGE, **changes)), NOW))) is found


def test_a_finding_says_that_a_link_only_claims_to_encrypt() -> None:
    edge = replace(EDGE, link="claimed overlay")
    (finding,) = plaintext_across_hosts(state(edge), NOW)
    assert finding.title.endswith("through a link that only claims to encrypt (overlay)")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({}, "in the clear", id="plaintext"),
        pytest.param(
            {"encryption": "encrypted", "versions": ("TLSv1.0",)}, "with TLSv1.0", id="too old"
        ),
        pytest.param({"encryption": "unknown"}, "nothing proves", id="strict"),
        pytest.param({"verdict": "allow"}, None, id="kept"),
        pytest.param({"direction": "guessed"}, None, id="nobody knows who called"),
    ],
)
def test_an_obligation_that_was_broken_is_found(changes: dict[str, Any], said: str | None) -> None:
    """One finding per edge whose verdict says so, with what was proven."""
    edge = replace(EDGE, **{"verdict": "violated", **changes})
    found = [finding.title for finding in obligation_violated(state(edge), NOW)]
    assert [said in title for title in found] == ([True] if said else [])


@pytest.mark.parametrize(
    ("host", "later_s", "since_s", "cause"),
    [
        pytest.param(HOST, 74, 0, None, id="a little late"),
        pytest.param(HOST, 76, 0, "stopped", id="stopped"),
        pytest.param(replace(HOST, last_report=None), 76, 0, "never-reported", id="never"),
        pytest.param(replace(HOST, last_report=None), 74, 0, None, id="just enrolled"),
        pytest.param(replace(HOST, interval=60 * SECOND), 190, 0, None, id="long intervals"),
        pytest.param(replace(HOST, interval=60 * SECOND), 196, 0, "stopped", id="three missed"),
        pytest.param(HOST, 3_600, 3_590, None, id="the controller itself was away"),
    ],
)
def test_silent_agent(host: HostState, later_s: int, since_s: int, cause: str | None) -> None:
    seen = state(hosts=(host,), listening_since=NOW + since_s * SECOND)
    findings = list(silent_agent(seen, NOW + later_s * SECOND))
    assert [f.evidence[0]["cause"] for f in findings] == ([cause] if cause else [])


@pytest.mark.parametrize(
    ("denials", "found"),
    [
        pytest.param([{}], True, id="often in a minute"),
        pytest.param([{"count": BURST - 1}], False, id="once less"),
        pytest.param([{"count": BURST // 2}, {"count": BURST // 2, "port": 23}], True, id="ports"),
        pytest.param(
            [{"count": BURST // 2}, {"count": BURST // 2, "last": NOW - 61 * SECOND}],
            False,
            id="over two minutes",
        ),
        pytest.param([{"kind": "would-deny"}], False, id="a staged document only asks"),
        pytest.param([{"kind": "quarantined"}], False, id="a quarantined one is meant to"),
        pytest.param([{"source": "external:192.0.2.7"}], True, id="from outside"),
        pytest.param([{"destination": "external:192.0.2.7"}], False, id="no workload we know"),
    ],
)
def test_denied_burst(denials: list[dict[str, Any]], found: bool) -> None:
    """One finding per pair, whichever ports; its evidence names document, file and line."""
    seen = state(denials=tuple(replace(DENIAL, **changes) for changes in denials))
    findings = list(denied_burst(seen, NOW))
    assert len(findings) == found
    for finding in findings:
        first = finding.evidence[0]
        assert (first["document"], first["file"], first["line"]) == (
            "Segment shop/db",
            "db.yaml",
            7,
        )


@pytest.mark.parametrize(
    ("denials", "found"),
    [
        pytest.param([{}], True, id="one frame"),
        pytest.param([{"claimed": "198.18.0.9"}, {"claimed": "198.18.0.8"}], True, id="as many"),
        pytest.param([{"source": "external:"}], False, id="nobody's port"),
        pytest.param([{"kind": "unknown"}], False, id="unknown, as whoever starts"),
    ],
)
def test_forged_sender(denials: list[dict[str, Any]], found: bool) -> None:
    """One finding per workload that sent them, whatever they claim."""
    seen = state(denials=tuple(replace(FORGED, **changes) for changes in denials))
    findings = list(forged_sender(seen, NOW))
    assert [finding.subject for finding in findings] == [DB_PEER.id] * found
    for finding in findings:
        assert finding.evidence[0]["claimed"] in finding.title


def test_how_long_is_an_argument() -> None:
    seen = state(hosts=(HOST,), listening_since=NOW)
    assert list(silent_agent(seen, NOW + 20 * SECOND, after=5 * SECOND))
    assert not list(silent_agent(seen, NOW + 20 * SECOND))


def test_every_finding_says_what_to_do_and_brings_its_proof() -> None:
    ends = "b/x/one", "b/x/two", "198.18.0.2"
    wrong = Disagreement("false-allow", *ends, "tcp", 80, "open", "Segment x/two")
    enforcement = Enforcement(unproven=(wrong,), repairs=(REPAIR,))
    host = replace(HOST, enforcement=enforcement, skewed=True)
    seen = state(replace(EDGE, verdict="violated"), hosts=(host,), denials=(DENIAL, FORGED))
    findings = [f for detector in DETECTORS for f in detector(seen, NOW + 3_600 * SECOND)]
    assert len(findings) == len(DETECTORS)
    assert len({(f.detector, f.subject) for f in findings}) == len(findings)
    for finding in findings:
        assert finding.advice and finding.title and finding.evidence


@pytest.mark.parametrize(
    ("skew", "skewed", "title"),
    [
        pytest.param(40, True, "The clock of a is 40 s ahead of the controller's", id="ahead"),
        pytest.param(-3600, True, "The clock of a is 3600 s behind the controller's", id="behind"),
        pytest.param(-3600, False, None, id="a spool"),
    ],
)
def test_a_clock_that_is_wrong_is_told(skew: int, skewed: bool, title: str | None) -> None:
    host = replace(HOST, clock_skew=skew * SECOND, skewed=skewed)
    found = [each.title for each in clock_skew(state(hosts=(host,)), NOW)]
    assert found == ([] if title is None else [title])

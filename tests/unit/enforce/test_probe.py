"""What a segmentation test asks and what an outcome proves, without a kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.enforce.probe import Answer, Planner, Question, judged, single_ports, spread
from netwatch.model.errors import UsageError
from netwatch.model.snapshot import Neighbour, Network, Quarantine, Snapshot
from netwatch.model.workload import PublishedPort
from netwatch.policy.ir import Party, PortSpec, WorkloadPeer
from tests.unit.enforce.worlds import allow, chosen, policy, snapshot, workload

WEB, API = workload("web", 10, pid=1), workload("api", 11, pid=2)
HERE = snapshot(WEB, API)
TCP_80 = PortSpec("tcp", 80, 80)
FROM_WEB = allow(WorkloadPeer(chosen("app", "web")), ports=(TCP_80,))
CLOSED = policy(chosen("app", "api"), isolates_ingress=True, ingress=(FROM_WEB,))
SHUT_IN = policy(chosen("app", "web"), isolates_egress=True)


def planner(*documents: object, at: Snapshot = HERE) -> Planner:
    heard = {API.identity: frozenset({("tcp", 9000), ("udp", 53)})}
    return Planner(documents, at, heard, now=0)


def asked(made: Planner, source: Party, *targets: Party, **others: object) -> list[Question]:
    return list(made.questions([source], targets, **others))


def test_documented_and_listening_ports_are_tried_and_one_that_is_closed() -> None:
    """In both families; the closed port is nobody's."""
    found = asked(planner(CLOSED), Party(WEB), Party(API))
    assert [(q.protocol, q.port, q.expected.verdict) for q in found if q.aim[0] < "2"] == [
        ("tcp", 80, "allow"),
        ("tcp", 9000, "deny"),
        ("udp", 53, "deny"),
        ("tcp", 1, "deny"),
    ]
    assert {q.aim[0] for q in found} == set(API.addresses)


def test_nobody_is_asked_about_itself_and_only_the_running_are_tried_from() -> None:
    """A workload without a process, of another host, or in the host's network can not try."""
    stopped = replace(WEB, pid=None)
    sharing = replace(WEB, host_network=True)
    made = planner()
    assert made.sources([Party(WEB), Party(API)]) == [Party(WEB), Party(API)]
    assert made.sources([Party(stopped), Party(sharing), Party(None, "203.0.113.9")]) == []
    assert asked(made, Party(WEB), Party(WEB)) == []


@pytest.mark.parametrize(
    ("result", "told", "expected", "verdict"),
    [
        pytest.param("open", True, "allow", "agree", id="open as it should be"),
        pytest.param("refused", True, "allow", "agree", id="refused was reached"),
        pytest.param("filtered", True, "deny", "agree", id="prohibited"),
        pytest.param("filtered", False, "deny", "agree", id="silence where it is denied"),
        pytest.param("open", True, "deny", "false-allow", id="a hole"),
        pytest.param("refused", True, "deny", "false-allow", id="a closed port behind a hole"),
        pytest.param("filtered", True, "allow", "false-deny", id="a wall"),
        pytest.param("filtered", False, "allow", "false-deny", id="a silent wall"),
        pytest.param("untried", False, "allow", "unproven", id="not tried"),
    ],
)
def test_what_an_outcome_of_tcp_proves(
    result: str, told: bool, expected: str, verdict: str
) -> None:
    port = 80 if expected == "allow" else 1
    question = next(q for q in asked(planner(CLOSED), Party(WEB), Party(API)) if q.port == port)
    assert question.expected.verdict == expected
    assert judged(question, Answer(result, 1.0, told)).kind == verdict


@pytest.mark.parametrize("documents", [(), (CLOSED,)])
def test_silence_of_udp_proves_nothing(documents: tuple[object, ...]) -> None:
    """A service may have nothing to say to what it does not understand; an answer proves all."""
    made = planner(*documents)
    question = next(q for q in asked(made, Party(WEB), Party(API)) if q.protocol == "udp")
    assert judged(question, Answer("filtered", 1.0, told=False)).kind == "unproven"
    heard = judged(question, Answer("open", 1.0)).kind
    assert heard == ("false-allow" if documents else "agree")


def test_quarantine_is_expected_before_any_policy() -> None:
    held = replace(HERE, quarantined=(Quarantine("x/web"),))
    found = asked(planner(CLOSED, at=held), Party(WEB), Party(API), ports=[TCP_80])
    assert {q.expected.verdict for q in found} == {"deny"}


FAR = workload("far", 12, host="b")
DOOR = replace(FAR, published=(PublishedPort("0.0.0.0", 8080, 80, "tcp"),))


@pytest.mark.parametrize(
    ("routed", "there", "aim"),
    [
        pytest.param(True, FAR, ("198.18.2.12", 80), id="its own address"),
        pytest.param(False, DOOR, ("192.0.2.2", 8080), id="its host's door"),
        pytest.param(False, FAR, None, id="hidden"),
    ],
)
def test_another_hosts_workload_is_reached_as_this_host_reaches_it(
    routed: bool, there: object, aim: tuple[str, int] | None
) -> None:
    at = snapshot(WEB, API, neighbours=(Neighbour("b", ("192.0.2.2",), routed, (there,)),))
    found = asked(planner(at=at), Party(WEB), Party(there), ports=[TCP_80], families=[4])
    assert [q.aim for q in found] == ([aim] if aim else [])


def test_what_another_host_judges_is_claimed_only_where_this_one_decides() -> None:
    """Our egress denial is ours to prove; the far ingress, and silence on the way, are not."""
    at = snapshot(WEB, API, neighbours=(Neighbour("b", ("192.0.2.2",), True, (FAR,)),))
    closed_far = policy(chosen("app", "far"), isolates_ingress=True)

    def verdict(*documents: object, result: str) -> str:
        made = planner(*documents, at=at)
        (question,) = asked(made, Party(WEB), Party(FAR), ports=[TCP_80], families=[4])
        return judged(question, Answer(result, 1.0)).kind

    assert verdict(SHUT_IN, result="open") == "false-allow"
    assert verdict(closed_far, result="open") == "unproven"
    assert verdict(closed_far, result="filtered") == "agree"
    assert verdict(result="filtered") == "unproven"
    assert verdict(result="refused") == "agree"


def test_what_the_runtime_keeps_apart_is_no_false_deny() -> None:
    """Two networks without a workload in common: Docker isolates them beside us."""
    other = replace(API, networks=("back",), addresses=("198.18.9.11",))
    at = replace(
        snapshot(WEB, other),
        networks=(*HERE.networks, Network("back", "bridge", "br1", ("198.18.9.0/24",))),
    )
    (question,) = asked(planner(at=at), Party(WEB), Party(other), ports=[TCP_80])
    assert judged(question, Answer("filtered", 1.0)).kind == "unproven"
    assert judged(question, Answer("open", 1.0)).kind == "agree"


def test_the_outside_needs_ports_and_may_refuse_by_itself() -> None:
    out = Party(None, "203.0.113.9")
    assert asked(planner(), Party(WEB), out) == []
    (question,) = asked(planner(SHUT_IN), Party(WEB), out, ports=[TCP_80])
    assert judged(question, Answer("open", 1.0)).kind == "false-allow"
    (question,) = asked(planner(), Party(WEB), out, ports=[TCP_80])
    assert judged(question, Answer("filtered", 1.0)).kind == "unproven"


def test_a_large_test_is_thinned_evenly() -> None:
    """Every pair keeps its share; nothing is thinned below the limit."""
    one = asked(planner(), Party(WEB), Party(API), ports=[TCP_80])[0]
    many = [replace(one, port=number) for number in range(1, 1001)]
    assert spread(many, 1000) == many
    assert [q.port for q in spread(many, 4)] == [1, 251, 501, 751]


def test_the_same_call_is_asked_again_with_what_is_known_now() -> None:
    """Of a workload that went nothing is asked; one with a new address is called there."""
    (before,) = asked(planner(CLOSED), Party(WEB), Party(API), ports=[TCP_80], families=[4])
    moved = replace(API, addresses=("198.18.1.99",))
    after = planner(at=snapshot(WEB, moved)).again(before)
    assert after is not None and after.aim == ("198.18.1.99", 80)
    assert planner(at=snapshot(WEB)).again(before) is None
    assert planner(at=snapshot(replace(WEB, pid=None), API)).again(before) is None


@pytest.mark.parametrize("spec", [PortSpec("tcp", 80, 90), PortSpec("udp"), PortSpec()])
def test_a_probe_knocks_at_single_ports(spec: PortSpec) -> None:
    assert single_ports([TCP_80, PortSpec(name="http")]) == (TCP_80, PortSpec(name="http"))
    with pytest.raises(UsageError, match="single ports"):
        single_ports([spec])

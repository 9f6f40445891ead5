"""Ports of bridges: whose they are, what they may send, and what a change has to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.portguard import (
    NO_STATE,
    SETS,
    GuardChange,
    GuardState,
    guard_change,
    guard_state,
)
from netwatch.model.snapshot import Network, Quarantine
from netwatch.model.workload import Interface
from netwatch.policy.ir import Mode
from tests.unit.enforce.worlds import chosen, policy, snapshot, workload

CLOSED = policy(chosen("app", "api"), isolates_ingress=True)
OPEN = Network("open", "bridge", "br1", ("198.18.3.0/24",), ("198.18.3.1",))
BOTH = workload(
    "api",
    11,
    addresses=("198.18.1.11", "198.18.3.11"),
    networks=("lab", "open"),
    interfaces=(Interface("v-api", 11, "br0", "lab"), Interface("w-api", 21, "br1", "open")),
    link_local=("fe80::11",),
)
BESIDE = workload(
    "beside",
    30,
    addresses=("198.18.3.30",),
    networks=("open",),
    interfaces=(Interface("v-beside", 30, "br1", "open"),),
)
ROGUE = workload("rogue", 12)
HOST = replace(snapshot(BOTH, BESIDE, ROGUE), networks=(*snapshot().networks, OPEN))
# A document that selects api closes every network that api is on.
ALONE = replace(snapshot(workload("api", 11), BESIDE), networks=HOST.networks)


def test_without_an_enforcing_document_there_is_no_guard() -> None:
    """Observing and staging touch no frame."""
    for mode in (Mode.OBSERVE, Mode.STAGE):
        assert not compile((replace(CLOSED, mode=mode),), HOST, now=0).guard


def test_every_port_of_a_closed_network_sends_as_its_owner() -> None:
    """Whoever is on it is guarded, selected or not, under all of its own addresses."""
    guard = compile((CLOSED,), HOST, now=0).guard
    assert guard.of("ports") == {("v-api",), ("w-api",), ("v-beside",), ("v-rogue",)}
    assert {address for port, address in guard.of("own4") if port == "w-api"} == {
        "198.18.1.11",
        "198.18.3.11",
    }
    assert ("v-api", "fe80::11") in guard.of("own6")
    assert ("v-rogue", "198.18.1.11") not in guard.of("own4")


def test_a_network_without_a_selected_workload_is_left_alone() -> None:
    """Neither are its ports guarded, nor are its addresses anybody's there."""
    guard = compile((CLOSED,), ALONE, now=0).guard
    assert guard.of("ports") == {("v-api",)}
    assert guard.of("claimed4") == {("198.18.1.11",), ("198.18.1.1",)}


def test_a_gateway_that_is_not_the_hosts_is_a_router_beyond_the_bridge() -> None:
    elsewhere = replace(ALONE, addresses=("192.0.2.1",))
    assert compile((CLOSED,), elsewhere, now=0).guard.of("claimed4") == {("198.18.1.11",)}


@pytest.mark.parametrize(
    ("allow", "cages"),
    [
        pytest.param((), {("v-rogue",)}, id="nobody may be reached"),
        pytest.param(("192.0.2.7",), set(), id="iptables judges the forensic address"),
    ],
)
def test_a_quarantined_port_is_guarded_on_any_network(
    allow: tuple[str, ...], cages: set[tuple[str]]
) -> None:
    held = replace(HOST, quarantined=(Quarantine("x/rogue", allow),))
    guard = compile((), held, now=0).guard
    assert guard.of("ports") == {("v-rogue",)}
    assert guard.of("cages") == cages


def test_a_port_sends_under_its_owners_hardware_address_where_that_is_known() -> None:
    """A port whose owner's nobody knows is held to addresses only; no other network's is held."""
    known = Interface("v-rogue", 12, "br0", "lab", "02:00:00:00:00:12")
    elsewhere = Interface("v-far", 40, "br1", "open", "02:00:00:00:00:40")
    rogue = replace(ROGUE, interfaces=(known, elsewhere))
    host = replace(snapshot(workload("api", 11), rogue), networks=HOST.networks)
    guard = compile((CLOSED,), host, now=0).guard
    assert guard.of("macs") == {("v-rogue", "02:00:00:00:00:12")}
    assert guard.of("faces") == {("v-rogue",)}


def test_only_who_has_an_isolated_ingress_hears_no_broadcast() -> None:
    """All of its ports; and the broadcast addresses of networks that fail closed."""
    guard = compile((CLOSED,), HOST, now=0).guard
    assert guard.of("deaf") == {("v-api",), ("w-api",)}
    assert ("198.18.3.255",) in guard.of("directed")
    outward = replace(CLOSED, isolates_ingress=False, isolates_egress=True)
    assert not compile((outward,), HOST, now=0).guard.of("deaf")


def test_what_is_so_needs_no_change() -> None:
    guard = compile((CLOSED,), HOST, now=0).guard
    drift: list[str] = []
    assert guard_change(guard, guard_state(guard), drift) is None
    assert drift == []


def test_a_new_port_is_a_change_of_members_only() -> None:
    """What one container's start costs is one message, not a table."""
    guard = compile((CLOSED,), HOST, now=0).guard
    before = compile((CLOSED,), replace(HOST, workloads=(BOTH, BESIDE)), now=0).guard
    change = guard_change(guard, guard_state(before), [])
    assert change is not None
    assert change.whole is None and not change.gone and not change.delete
    assert dict(change.add)["own4"] == (("v-rogue", "198.18.1.12"),)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        pytest.param(NO_STATE, "is missing", id="table gone"),
        pytest.param(
            GuardState({"enter": ()}, {name: frozenset() for name in SETS}, there=True),
            "was changed",
            id="rules changed",
        ),
    ],
)
def test_a_table_that_is_not_ours_any_more_is_written_anew(state: GuardState, said: str) -> None:
    guard = compile((CLOSED,), HOST, now=0).guard
    drift: list[str] = []
    assert guard_change(guard, state, drift) == GuardChange(whole=guard, gone=state.there)
    assert said in drift[0]


def test_a_kernel_without_it_is_asked_nothing() -> None:
    """Then `plan` says so, and everything else is applied."""
    guard = compile((CLOSED,), HOST, now=0).guard
    assert guard_change(guard, GuardState(able=False), []) is None

"""One workload's share: its own directions are judged as by the host's rules, no others are."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.share import hidden_from_host, share_of
from netwatch.enforce.walk import DENY, PASS, Packet, Walker
from netwatch.model.snapshot import Network, Snapshot
from tests.unit.enforce.worlds import (
    OUTSIDE,
    PORTS,
    random_denials,
    random_policies,
    random_world,
    workload,
)


@pytest.mark.parametrize("seed", range(2))
def test_both_shares_together_judge_as_the_host_does(seed: int) -> None:
    """A packet passes exactly if the source's share lets it out and the destination's in."""
    assert_shares_judge_as_the_host(seed)


def assert_shares_judge_as_the_host(seed: int) -> None:
    """No packet of this world is judged otherwise by the two shares than by the host."""
    draw = random.Random(seed)
    world = replace(random_world(draw, 5), neighbours=())
    policies = (*random_policies(draw, 3), *random_denials(draw, 2))
    ruleset = compile(policies[seed % 4 :], world, now=0)
    whole = Walker(ruleset)
    rooms = {
        address: share and Walker(share)
        for each in world.workloads
        if not each.host_network
        for share in [share_of(ruleset, each.addresses)]
        for address in each.addresses
    }
    ends = [*rooms, *OUTSIDE]
    judged = 0
    for source in ends:
        for target in ends:
            same = (":" in source) == (":" in target)
            if source == target or not same or (source in OUTSIDE and target in OUTSIDE):
                continue
            for protocol, port in (("tcp", draw.choice(PORTS)), ("udp", 53), ("icmp", None)):
                if protocol == "icmp" and ":" in source:
                    continue
                packet = Packet("NW-FWD", source, target, protocol, port)
                sides = [(source, "NW-OUT"), (target, "NW-IN")]
                passes = all(
                    share.verdict(replace(packet, hook=hook)) == PASS
                    for end, hook in sides
                    if (share := rooms.get(end)) is not None
                )
                assert (PASS if passes else DENY) == whole.verdict(packet), packet
                judged += 1
    assert judged


@pytest.mark.parametrize(
    ("drivers", "bridges_seen", "hidden"),
    [
        pytest.param(("bridge",), True, False, id="bridge"),
        pytest.param(("bridge",), False, True, id="bridge without br_netfilter"),
        pytest.param(("macvlan",), True, True, id="macvlan"),
        pytest.param(("bridge", "ipvlan"), True, True, id="one of two"),
        pytest.param(("null",), False, False, id="no network"),
    ],
)
def test_who_has_a_way_past_the_hosts_rules(
    drivers: tuple[str, ...], bridges_seen: bool, hidden: bool
) -> None:
    one = workload("web", 10, networks=drivers)
    host = Snapshot("a", (one,), tuple(Network(driver, driver) for driver in drivers))
    assert hidden_from_host(one, host, bridges_seen=bridges_seen) is hidden
    assert not hidden_from_host(replace(one, host_network=True), host, bridges_seen=bridges_seen)

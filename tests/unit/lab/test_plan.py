"""Where everything in a lab gets its address, its interface name and its published port."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netwatch.lab.document import read
from netwatch.lab.plan import Plan, directory, place
from netwatch.model.errors import InvalidDocument


def planned(text: str) -> Plan:
    return place(read(text, file="lab.yaml"), file="lab.yaml")


def hosts(*workloads: str, head: str = "hosts: [a, b]") -> str:
    rows = "".join(f"  - {{{row}}}\n" for row in workloads)
    return f"{head}\nworkloads:\n{rows}"


def addresses(plan: Plan) -> dict[str, list[str]]:
    return {w.spec.name: [str(address) for address in w.addresses] for w in plan.workloads}


def test_addresses_are_chosen_in_the_order_of_the_file() -> None:
    """The same file always gives the same addresses: 198.18.H.10 and 2001:db8:H::a onwards."""
    plan = planned(hosts("name: x, host: b", "name: y, host: a", "name: z, host: b"))
    assert addresses(plan) == {
        "x": ["198.18.2.10", "2001:db8:2::a"],
        "y": ["198.18.1.10", "2001:db8:1::a"],
        "z": ["198.18.2.11", "2001:db8:2::b"],
    }
    a, b = plan.hosts
    assert [str(gateway) for gateway in a.gateways] == ["198.18.1.1", "2001:db8:1::1"]
    assert [str(uplink) for uplink in b.uplink] == ["192.0.2.2", "2001:db8:0:ffff::2"]


def test_given_addresses_stand_and_decide_the_subnet() -> None:
    """The others of the host are chosen beside them; a family that is not given stays away."""
    plan = planned(
        hosts(
            "name: x, host: a, addresses: [203.0.113.10]", "name: y, host: a", "name: z, host: b"
        )
    )
    assert addresses(plan) == {
        "x": ["203.0.113.10"],
        "y": ["203.0.113.11", "2001:db8:1::b"],
        "z": ["198.18.2.10", "2001:db8:2::a"],
    }


def test_the_first_address_of_a_subnet_may_be_a_workloads() -> None:
    """The gateway makes room."""
    plan = planned(hosts("name: x, host: a, addresses: [198.18.0.1, '2001:db8::1']"))
    assert [str(gateway) for gateway in plan.hosts[0].gateways] == ["198.18.0.254", "2001:db8::fe"]


@pytest.mark.parametrize("taken", ["192.0.2.7", "203.0.113.7", "198.18.2.7", "2001:db8:0:ffff::7"])
def test_no_two_networks_of_a_lab_overlap(taken: str) -> None:
    """Whatever the file uses, underlay, internet and the other hosts lie elsewhere."""
    plan = planned(hosts(f"name: x, host: a, addresses: ['{taken}']", "name: y, host: b"))
    networks = [*plan.underlay, *plan.outside, *(s for h in plan.hosts for s in h.subnets)]
    assert len(set(networks)) == len(networks)
    assert ip_address(taken) in plan.hosts[0].subnets[0 if "." in taken else 1]


def test_a_full_lab_has_room_and_names_that_linux_takes() -> None:
    """Interface names have at most 15 characters (IFNAMSIZ), addresses are all different."""
    rows = [f"name: {'w' * 58}-{n}, host: a" for n in range(245)]
    plan = planned(hosts(*rows))
    assert max(len(w.interface) for w in plan.workloads) <= 15
    assert len({w.interface for w in plan.workloads}) == 245
    assert len({address for w in plan.workloads for address in w.addresses}) == 490
    subnet = ip_network("198.18.1.0/24")
    used = {w.addresses[0] for w in plan.workloads}
    assert not used & {subnet[0], subnet[1], subnet[255]}
    with pytest.raises(InvalidDocument, match="no address left"):
        planned(hosts(*rows, "name: one-more, host: a"))


@pytest.mark.parametrize(
    ("head", "routed"),
    [
        pytest.param("hosts: [a, b]", [True, True], id="routed"),
        pytest.param("{hosts: [a, b], underlay: nat}", [False, False], id="nat"),
    ],
)
def test_the_underlay_decides_who_is_routed(head: str, routed: list[bool]) -> None:
    """Behind NAT no host knows a way to the workloads of another."""
    text = f"{head}\n" if "{" in head else hosts("name: x, host: a", head=head)
    assert [host.routed for host in planned(text).hosts] == routed


def test_hosts_that_share_a_subnet_masquerade_whatever_the_underlay() -> None:
    """There is no route to one of two equal subnets."""
    plan = planned(
        "hosts: [a, b, c]\nworkloads:\n"
        "- {name: x, host: a, addresses: [198.18.9.1]}\n"
        "- {name: y, host: b, addresses: [198.18.9.1]}\n"
        "- {name: z, host: c}\n"
    )
    assert [host.routed for host in plan.hosts] == [False, False, True]


def test_published_ports_keep_their_number_where_they_can() -> None:
    """Asked-for numbers first, then the port's own, then free ones; what is hidden is not
    published."""
    plan = planned(
        "hosts: [a]\nunderlay: nat\nworkloads:\n"
        "- {name: x, host: a, listen: [{port: 80}, {port: 53, protocol: udp}]}\n"
        "- {name: y, host: a, listen: [{port: 80}, {port: 53}]}\n"
        "- {name: z, host: a, listen: [{port: 8080, publish: 80}, {port: 9, documented: false}]}\n"
    )
    entries = directory(plan)
    assert entries["x"].published == {"tcp/80": 20000, "udp/53": 53}
    assert entries["y"].published == {"tcp/80": 20001, "tcp/53": 53}
    assert entries["z"].published == {"tcp/8080": 80}
    assert planned(hosts("name: x, host: a, listen: [{port: 80}]")).workloads[0].doors == ()


@pytest.mark.parametrize(
    ("rows", "place", "words"),
    [
        pytest.param(
            [
                "name: x, host: a, addresses: [198.18.1.2]",
                "name: y, host: a, addresses: [10.0.0.1]",
            ],
            (4, 35),
            "outside 198.18.1.0/24",
            id="two IPv4 subnets on a host",
        ),
        pytest.param(
            ["name: x, host: a, addresses: ['2001:db8:1::2', '2001:db8:2::2']"],
            (3, 35),
            "outside 2001:db8:1::/64",
            id="two IPv6 subnets on a host",
        ),
        pytest.param(
            [
                "name: x, host: a, addresses: [198.18.1.2]",
                "name: y, host: a, addresses: [198.18.1.2]",
            ],
            (4, 35),
            "x and y both have 198.18.1.2",
            id="one address twice on a host",
        ),
        pytest.param(
            ["name: x, host: a, addresses: [198.18.1.255]"],
            (3, 35),
            "network or broadcast",
            id="broadcast",
        ),
        pytest.param(
            ["name: x, host: a, addresses: ['2001:db8::']"],
            (3, 35),
            "network or broadcast",
            id="subnet-router anycast",
        ),
    ],
)
def test_addresses_that_do_not_fit_are_refused(
    rows: list[str], place: tuple[int, int], words: str
) -> None:
    """The error points at the list of addresses."""
    with pytest.raises(InvalidDocument, match=words) as caught:
        planned(hosts(*rows))
    assert (caught.value.line, caught.value.column) == place


def test_two_workloads_can_not_publish_one_port() -> None:
    """Docker refuses it too."""
    with pytest.raises(InvalidDocument, match="x and y both publish tcp port 80 of host a"):
        planned(
            "hosts: [a]\nunderlay: nat\nworkloads:\n"
            "- {name: x, host: a, listen: [{port: 1, publish: 80}]}\n"
            "- {name: y, host: a, listen: [{port: 2, publish: 80}]}\n"
        )

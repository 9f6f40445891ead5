"""The rules of a host that masquerades."""

from __future__ import annotations

from netwatch.lab.document import read
from netwatch.lab.nat import rules
from netwatch.lab.plan import place

LAB = """\
hosts: [a]
underlay: nat
workloads:
  - {name: web, host: a, listen: [{port: 80}, {port: 53, protocol: udp}]}
  - {name: four, host: a, addresses: [198.18.1.77], listen: [{port: 80}]}
"""


def test_each_family_has_its_doors_and_its_masquerade() -> None:
    """As Docker: DNAT for local destinations, MASQUERADE for what leaves the bridge."""
    plan = place(read(LAB, file="lab.yaml"))
    (host,) = plan.hosts
    assert rules(host, plan.workloads, version=4).splitlines() == [
        "*nat",
        ":LAB - [0:0]",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j LAB",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j LAB",
        "-A POSTROUTING -s 198.18.1.0/24 ! -o br0 -j MASQUERADE",
        "-A LAB -p tcp --dport 80 -j DNAT --to-destination 198.18.1.10:80",
        "-A LAB -p udp --dport 53 -j DNAT --to-destination 198.18.1.10:53",
        "-A LAB -p tcp --dport 20000 -j DNAT --to-destination 198.18.1.77:80",
        "COMMIT",
    ]
    v6 = rules(host, plan.workloads, version=6)
    assert "-A LAB -p tcp --dport 80 -j DNAT --to-destination [2001:db8:1::a]:80" in v6
    assert "20000" not in v6

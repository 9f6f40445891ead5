"""What Docker 29 writes with `--firewall-backend=nftables`, as text for `nft -f`.

Not recorded from a running Docker 29, which these tests have no way to run: written after the
description of its tables that the Moby project publishes (integration/network/bridge/nftablesdoc,
"new-daemon" and "usernet-portmap", versions 28.5 to 29): the same tables, maps, chains, hooks,
priorities, order of rules and comments, for one bridge or two, userland proxy on, gateway mode
nat. There is no DOCKER-USER. Whole tables are rewritten when the daemon starts; networks and
ports come and go by elements and chains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TABLE = "docker-bridges"
WORDS = {4: ("ip", "127.0.0.0/8"), 6: ("ip6", "::1")}
MAPS = ("filter-forward-in", "filter-forward-out", "nat-postrouting-in", "nat-postrouting-out")


@dataclass(frozen=True)
class Bridge:
    """A network of Docker's: its bridge, and per family its subnet."""

    name: str
    subnets: dict[int, str]


@dataclass(frozen=True)
class Port:
    """A published port: `host` on the host leads to `port` of the container at `address`."""

    bridge: str
    host: int
    address: str
    port: int


def _map(name: str, bridges: Iterable[Bridge]) -> list[str]:
    members = ", ".join(f'"{b.name}" : jump {name}__{b.name}' for b in bridges)
    return [
        f"map {name}-jumps {{",
        "type ifname : verdict",
        f"elements = {{ {members} }}",
        "}",
    ]


def _of_bridge(bridge: Bridge, family: int, ports: Iterable[Port]) -> list[str]:
    word = WORDS[family][0]
    name = bridge.name
    opened = [f"{word} daddr {p.address} tcp dport {p.port} counter accept" for p in ports]
    return [
        f"chain filter-forward-in__{name} {{",
        "ct state established,related counter accept",
        f'iifname "{name}" counter accept comment "ICC"',
        *opened,
        'counter drop comment "UNPUBLISHED PORT DROP"',
        "}",
        f"chain filter-forward-out__{name} {{",
        "ct state established,related counter accept",
        'counter accept comment "OUTGOING"',
        "}",
        f"chain nat-postrouting-in__{name} {{",
        "}",
        f"chain nat-postrouting-out__{name} {{",
        f'oifname != "{name}" {word} saddr {bridge.subnets[family]} counter masquerade'
        ' comment "MASQUERADE"',
        "}",
    ]


def table(family: int, bridges: Iterable[Bridge], ports: Iterable[Port]) -> str:
    """One family's table, whole, as the daemon writes it when it starts."""
    word, loopback = WORDS[family]
    networks, published = tuple(bridges), [p for p in ports if (":" in p.address) == (family == 6)]
    target = {4: "{0.address}:{0.port}", 6: "[{0.address}]:{0.port}"}[family]
    dnat = [
        f'iifname != "{p.bridge}" tcp dport {p.host} counter dnat to {target.format(p)}'
        ' comment "DNAT"'
        for p in published
    ]
    direct = [
        f'{word} daddr {p.address} iifname != "{p.bridge}" counter drop'
        ' comment "DROP DIRECT ACCESS"'
        for p in published
    ]
    local = "fib daddr type local counter jump nat-prerouting-and-output"
    lines = [
        f"add table {word} {TABLE}",
        f"delete table {word} {TABLE}",
        f"table {word} {TABLE} {{",
        *(line for b in networks for line in _of_bridge(
            b, family, [p for p in published if p.bridge == b.name]
        )),
        *(line for name in MAPS for line in _map(name, networks)),
        "chain nat-prerouting-and-output {", *dnat, "}",
        "chain filter-FORWARD {",
        "type filter hook forward priority filter; policy accept;",
        "oifname vmap @filter-forward-in-jumps",
        "iifname vmap @filter-forward-out-jumps",
        "}",
        "chain nat-OUTPUT {",
        "type nat hook output priority -100; policy accept;",
        f"{word} daddr != {loopback} {local}",
        "}",
        "chain nat-POSTROUTING {",
        "type nat hook postrouting priority srcnat; policy accept;",
        "iifname vmap @nat-postrouting-out-jumps",
        "oifname vmap @nat-postrouting-in-jumps",
        "}",
        "chain nat-PREROUTING {",
        "type nat hook prerouting priority dstnat; policy accept;",
        local,
        "}",
        "chain raw-PREROUTING {",
        "type filter hook prerouting priority raw; policy accept;",
        *direct,
        "}",
        "}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def joins(family: int, bridge: Bridge) -> str:
    """`docker network create`: chains and elements for one more bridge, the rest untouched."""
    word = WORDS[family][0]
    chains = "\n".join(_of_bridge(bridge, family, ()))
    elements = "\n".join(
        f"add element {word} {TABLE} {name}-jumps"
        f' {{ "{bridge.name}" : jump {name}__{bridge.name} }}'
        for name in MAPS
    )
    return f"table {word} {TABLE} {{\n{chains}\n}}\n{elements}\n"

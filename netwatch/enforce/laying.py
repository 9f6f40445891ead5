"""Everything that one family needs, laid out as sets and rules, and held against the caps."""

from __future__ import annotations

from collections.abc import Callable

from netwatch.enforce.beyond import lay_beyond
from netwatch.enforce.ends import apart
from netwatch.enforce.layout import CapReached, Layout, Products
from netwatch.enforce.pairs import lay_pairs
from netwatch.enforce.reach import Reach, opens
from netwatch.enforce.regions import Region
from netwatch.enforce.sides import Sides
from netwatch.enforce.told import MAX_WIDTH, Told
from netwatch.policy.ir import Party

MAX_BLOCKS = 64  # rules of set x set on a host: each costs every refused packet about 150 ns
MAX_MEMBERS = 1_000_000  # of one set: maxelem is 2^20


def layout_of(
    reach: Reach,
    sides: Sides,
    *,
    prefix: str,
    tell: Callable[[Region, Region], Told],
    products: Products,
) -> Layout:
    """Sets and rules for one family; raises CapReached rather than truncate."""
    everything = sides.everything(reach.family)
    layout = Layout(prefix, reach.family, everything, tell, products)
    _lay_ends(layout, reach)
    lay_beyond(layout, reach)
    lay_pairs(layout, reach)
    _lay_doors(layout, reach, sides)
    _lay_far_doors(layout, reach, sides)
    for name, members in layout.members.items():
        if len(members) > MAX_MEMBERS:
            raise CapReached(
                f"the policies need {len(members)} members in {prefix}{name}, but a set holds at"
                f" most {MAX_MEMBERS}",
                "use fewer ports a rule, or rules without ports",
            )
    if layout.rules() > MAX_BLOCKS:
        raise CapReached(
            f"the policies need {layout.rules()} rules from set to set, but a host holds at most"
            f" {MAX_BLOCKS}; without ports or with long ranges are: {_wide_documents(sides)}",
            "let rules share selectors, or name ports",
        )
    return layout


def _wide_documents(sides: Sides) -> str:
    """The documents with rules that can not become members."""
    titles = [
        policy.title
        for policy in sides.policies
        for rule in (*policy.ingress, *policy.egress)
        if not rule.ports
        or any(p.first is None or (p.last or p.first) - p.first >= MAX_WIDTH for p in rule.ports)
    ]
    named = list(dict.fromkeys(titles or (policy.title for policy in sides.policies)))
    more = f" and {len(named) - 10} more" if len(named) > 10 else ""
    return ", ".join(named[:10]) + more


def _lay_ends(layout: Layout, reach: Reach) -> None:
    """Who keeps anything to itself, who everything, and the ports that are open all the same."""
    for name, groups in (
        ("iso-in", reach.closed_in),
        ("iso-out", reach.closed_out),
        ("shut-in", reach.shut_in),
        ("shut-out", reach.shut_out),
    ):
        layout.members[name] |= {address for group in groups for address in group.addresses}
    for group, region in reach.anyone:
        chosen = [f"{s.protocol}:{port}" for s in region for port in range(s.first, s.last + 1)]
        layout.load[group.name] += len(chosen)
        layout.members["any"] |= {f"{a},{port}" for port in chosen for a in group.addresses}


def _lay_doors(layout: Layout, reach: Reach, sides: Sides) -> None:
    """Published ports: a call from here to the door is judged as a call to what is behind it.

    docker-proxy's own call from the host to the workload is admitted for these ports.
    """
    closed_in = {a for group in reach.closed_in for a in group.addresses}
    closed_out = {group.name for group in reach.closed_out}
    for door in reach.doors:
        behind = [a for a in door.workload.addresses if (":" in a) == (reach.family == 6)]
        shut = bool(closed_in & set(behind))
        if not shut and not closed_out:
            continue
        spot = f"{door.span.protocol}:{door.span.first}"
        layout.members["pub" if shut else "pub-out"].add(f"{door.address},{spot}")
        inner = f"{door.span.protocol}:{door.port}"
        if shut:
            layout.members["edge"] |= {f"{door.address},{inner},{a}" for a in behind}
        for group in reach.local:
            if not shut and group.name not in closed_out:
                continue
            target = Party(door.workload, behind[0] if behind else None)
            if opens(sides.pair(group.party, target, reach.family), door):
                layout.members["edge"] |= {
                    f"{a},{spot},{door.address}"
                    for a in group.addresses
                    if not apart(a, door.address)
                }
        layout.members["edge"] |= {f"{a},{spot},{door.address}" for a in behind}


def _lay_far_doors(layout: Layout, reach: Reach, sides: Sides) -> None:
    """Published ports of hosts that see our workloads only as us: judged here, workload by
    workload. What this host calls itself is for the other side to judge."""
    for door in reach.far_doors:
        behind = next(
            (a for a in door.workload.addresses if (":" in a) == (reach.family == 6)), None
        )
        spot = f"{door.span.protocol}:{door.span.first}"
        layout.members["pub"].add(f"{door.address},{spot}")
        callers = list(reach.host)
        for group in reach.local:
            if opens(sides.pair(group.party, Party(door.workload, behind), reach.family), door):
                callers += group.addresses
        layout.members["edge"] |= {f"{caller},{spot},{door.address}" for caller in callers}

"""The constant rules: how a packet is judged by membership. About thirty, however many edges.

A verdict that permits is RETURN: the rules of the runtime and of the administrator still decide.
Nothing here drops unless a document enforces, and then only for ends that it isolates, or for
unknown sources on networks that it closed.

What is established goes first. ICMPv6 133 to 137 and MLD always pass (RFC 4890 says what breaks
otherwise); of RELATED only ICMP errors do.
"""

from __future__ import annotations

from netwatch.enforce.layout import Layout
from netwatch.enforce.regions import ALWAYS
from netwatch.enforce.ruleset import (
    Chain,
    DestinationPorts,
    Drop,
    IcmpType,
    InSet,
    Jump,
    Log,
    NotSyn,
    Protocol,
    Reject,
    Return,
    Rule,
    Sampled,
    State,
    Through,
)

# One rule each, the same for all policies: no change of policy writes them anew, so that their
# counters are exact totals.
DENIED, WOULD_DENY, UNKNOWN = "NW-T-DENIED", "NW-T-WOULD-DENY", "NW-T-UNKNOWN"
ESTABLISHED = Rule(Return(), (State("ESTABLISHED"),))


def hooks(*, judged: bool) -> tuple[Chain, ...]:
    """The chains that FORWARD (or DOCKER-USER), INPUT and OUTPUT jump to."""
    on = (Rule(Jump("NW-NEW", back=False)),) if judged else ()
    dhcp = tuple(
        Rule(Return(), (Protocol("udp"), DestinationPorts(port, port))) for port in (67, 547)
    )
    return (
        Chain("NW-FWD", (ESTABLISHED, *on)),
        Chain("NW-IN", (Rule(Return(), (Through("in", "lo"),)), ESTABLISHED, *dhcp, *on)),
        Chain("NW-OUT", (Rule(Return(), (Through("out", "lo"),)), ESTABLISHED, *on)),
    )


def _control(family: int) -> tuple[Rule, ...]:
    if family == 4:
        return (Rule(Return(), (Protocol("icmp"), State("RELATED"))),)
    types = (Rule(Return(), (Protocol("icmpv6"), IcmpType(number))) for number in ALWAYS)
    return (Rule(Return(), (Protocol("icmpv6"), State("RELATED"))), *types)


def enforcing(layout: Layout | None, staged: Layout | None, *, mark: str) -> tuple[Chain, ...]:
    """Everything behind the hooks, for one family; `mark` names the policies in log prefixes."""
    layouts = [each for each in (layout, staged) if each is not None]
    if not layouts:
        return hooks(judged=False)
    rules = list(_control(layouts[0].family))
    chains: list[Chain] = []
    if layout is not None:
        rules += [
            Rule(Jump("NW-STRICT"), (State("INVALID"),)),
            Rule(Jump("NW-STRICT"), (Protocol("tcp"), NotSyn(), State("NEW"))),
        ]
    if staged is not None:
        rules.append(Rule(Jump("NW-STAGE")))
        chains += [
            Chain("NW-STAGE", _judgement(staged, "NW-S-")),
            *_tail(staged, "NW-S-"),
            Chain("NW-S-DENY", (*_logged(f"nw:A:{mark}"), Rule(Jump(WOULD_DENY, back=False)))),
            Chain(WOULD_DENY, (Rule(Return()),)),
        ]
    if layout is not None:
        rules.append(Rule(Jump("NW-UNKNOWN"), (InSet("nw-known", "src", negated=True),)))
        rules += _judgement(layout, "NW-")
        chains += [
            *_tail(layout, "NW-"),
            Chain("NW-DENY", (*_logged(f"nw:D:{mark}"), Rule(Jump(DENIED, back=False)))),
            Chain(DENIED, (Rule(Reject()),)),
            *_guards(mark),
        ]
    return (*hooks(judged=True), Chain("NW-NEW", tuple(rules)), *chains)


def _logged(prefix: str) -> tuple[Rule, ...]:
    return (Rule(Log(prefix), (Sampled(prefix.split(":")[1].lower()),)),)


def _guards(mark: str) -> tuple[Chain, ...]:
    """Unknown sources, and packets that begin no connection, for those whom it concerns only."""
    drop = Jump("NW-DROP", back=False)
    return (
        Chain(
            "NW-UNKNOWN",
            (
                Rule(drop, (InSet("nw-bridge", "src,src"),)),
                Rule(drop, (InSet("nw-subnet", "src"),)),
            ),
        ),
        Chain("NW-DROP", (*_logged(f"nw:U:{mark}"), Rule(Jump(UNKNOWN, back=False)))),
        Chain(UNKNOWN, (Rule(Drop()),)),
        Chain(
            "NW-STRICT",
            tuple(
                Rule(Drop(), (InSet(name, way),))
                for name in ("nw-iso-in", "nw-iso-out")
                for way in ("dst", "src")
            ),
        ),
    )


def _judgement(layout: Layout, chain: str) -> tuple[Rule, ...]:
    """Permitted pairs leave; then doors, and who judges the rest."""
    p = layout.prefix
    deny = layout.deny
    known, closed_out = InSet("nw-known", "src"), InSet(f"{p}iso-out", "src")
    return (
        Rule(Return(), (InSet(f"{p}edge", "src,dst,dst"),)),
        Rule(deny, (InSet(f"{p}pub", "dst,dst"), known)),
        Rule(deny, (InSet(f"{p}pub-out", "dst,dst"), closed_out)),
        Rule(Jump(f"{chain}PAIR", back=False), (known, InSet("nw-known", "dst"))),
        Rule(Jump(f"{chain}EXT-IN", back=False), (InSet(f"{p}iso-in", "dst"),)),
        Rule(Jump(f"{chain}EXT-OUT", back=False), (closed_out,)),
    )


def _tail(layout: Layout, chain: str) -> tuple[Chain, ...]:
    """What is denied by name goes before what is permitted to all, and after what is exact."""
    p, deny, blocks = layout.prefix, layout.deny, layout.blocks
    free = InSet(f"{p}shut-out", "src", negated=True)

    def denied(name: str, directions: str) -> Rule:
        return Rule(deny, (InSet(f"{p}{name}", directions),))

    def barred(name: str, directions: str) -> tuple[Rule, ...]:
        """Only where somebody is: each costs every packet behind it about 150 ns."""
        return (denied(name, directions),) if layout.members.get(name) else ()

    return (
        Chain(
            f"{chain}PAIR",
            (
                *blocks["pairs", "exact"],
                *blocks["pairs", "barred"],
                *barred("bar-in", "dst,dst"),
                *barred("bar-out", "src,dst"),
                *barred("bar", "src,dst,dst"),
                *blocks["pairs", "wide"],
                Rule(Return(), (InSet(f"{p}any", "dst,dst"), free)),
                denied("shut-in", "dst"),
                denied("shut-out", "src"),
            ),
        ),
        Chain(
            f"{chain}EXT-IN",
            (
                Rule(Return(), (InSet(f"{p}cidr-in", "dst,dst,src"),)),
                *blocks["in", "exact"],
                *blocks["in", "barred"],
                *barred("far-in", "dst,dst"),
                *barred("cut-in", "dst,dst,src"),
                *blocks["in", "wide"],
                Rule(Return(), (InSet(f"{p}any", "dst,dst"),)),
                denied("shut-in", "dst"),
            ),
        ),
        Chain(
            f"{chain}EXT-OUT",
            (
                Rule(Return(), (InSet(f"{p}cidr-out", "src,dst,dst"),)),
                *blocks["out", "exact"],
                *blocks["out", "barred"],
                *barred("far-out", "src,dst"),
                *barred("cut-out", "src,dst,dst"),
                *blocks["out", "wide"],
                Rule(Return(), (free,)),
                Rule(deny),
            ),
        ),
    )

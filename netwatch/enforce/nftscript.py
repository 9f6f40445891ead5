"""The ruleset of a host as one script for `nft -f`: the same sets and the same rules, once more.

For hosts that have nftables and no netwatch: made from the very ruleset that netwatch would load,
so that it decides the same for the addresses that are in it. It does not follow containers that
come and go, and holds nothing of the bridge family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import collapse_addresses, ip_network

from netwatch.enforce.render import NFLOG_GROUP, word
from netwatch.enforce.ruleset import (
    HOOKS,
    Chain,
    DestinationPorts,
    Drop,
    Entered,
    IcmpType,
    InSet,
    Jump,
    Log,
    Match,
    MemberSet,
    NotSyn,
    Protocol,
    Reject,
    Return,
    Rule,
    Ruleset,
    Sampled,
    State,
    Target,
    Through,
)
from netwatch.model.errors import NetwatchError

TABLE = "netwatch"
_FAMILIES = {4: "ip", 6: "ip6"}
_TYPES = {
    "ip": {4: "ipv4_addr", 6: "ipv6_addr"},
    "net": {4: "ipv4_addr", 6: "ipv6_addr"},
    "port": {4: "inet_proto . inet_service", 6: "inet_proto . inet_service"},
    "iface": {4: "ifname", 6: "ifname"},
}
_CONTROL = {4: "icmp", 6: "icmpv6"}
_STATES = {"NEW": "new", "ESTABLISHED": "established", "RELATED": "related", "INVALID": "invalid"}
_PROTOCOLS = {"icmpv6": "ipv6-icmp"}
_PRIORITY = "filter - 1"  # before the runtime's own rules: what we permit, they may still refuse


def script(ruleset: Ruleset) -> str:
    """The text; loading it again replaces what it loaded before, in one transaction."""
    lines = [
        "#!/usr/sbin/nft -f",
        "# Written by netwatch policy export: enforced verdicts for the addresses of one moment.",
        *(f"# enforced: {_comment(title)}" for title in ruleset.facts.documents),
        "",
    ]
    for family, chains in ruleset.chains:
        table = f"table {_FAMILIES[family]} {TABLE}"
        sets = {each.title: each for each in ruleset.sets if each.family == family}
        lines += [table, f"delete {table}", f"{table} {{"]
        lines += [f"  {line}" for each in sets.values() for line in _set(each)]
        lines += [f"  {line}" for line in _chains(chains, sets, family)]
        lines += ["}", ""]
    return "\n".join(lines)


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _parts(each: MemberSet) -> list[str]:
    return each.kind.removeprefix("hash:").split(",")


def _set(each: MemberSet) -> Iterator[str]:
    parts = _parts(each)
    yield f"set {word(each.title)} {{"
    yield f"  type {' . '.join(_TYPES[part][each.family] for part in parts)}"
    members = each.members
    if "net" in parts:
        yield "  flags interval"
        members = _apart(each, parts.index("net"))
    if members:
        yield "  elements = {"
        yield from (f"    {_member(member)}," for member in sorted(members))
        yield "  }"
    yield "}"


def _apart(each: MemberSet, spot: int) -> frozenset[str]:
    """The same members without networks inside others: nft refuses what overlaps."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for member in each.members:
        parts = member.split(",")
        groups.setdefault((*parts[:spot], *parts[spot + 1 :]), []).append(parts[spot])
    found = set()
    for key, texts in groups.items():
        for network in collapse_addresses([ip_network(text) for text in texts]):  # type: ignore[type-var]
            found.add(",".join((*key[:spot], str(network), *key[spot:])))
    return frozenset(found)


def _member(member: str) -> str:
    """`198.18.0.1,tcp:80,198.18.0.2` as nft writes it; every part passes the whitelist."""
    found = []
    for part in member.split(","):
        protocol, colon, port = part.partition(":")
        if colon and protocol.isalpha() and port.isdigit() and protocol in ("tcp", "udp", "sctp"):
            found += [protocol, port]
        elif not set(part) <= set("0123456789abcdef.:/"):
            found.append(f'"{word(part)}"')
        else:
            found.append(part)
    return " . ".join(found)


def _chains(chains: Iterable[Chain], sets: Mapping[str, MemberSet], family: int) -> Iterator[str]:
    """Each before the rules that lead to it, then the rules, then where the hooks enter."""
    known = tuple(chains)
    for chain in known:
        yield f"chain {word(chain.name)} {{"
        yield "}"
    for chain in known:
        yield f"chain {word(chain.name)} {{"
        yield from (f"  {_rule(rule, sets, family)}" for rule in chain.rules)
        yield "}"
    names = {chain.name for chain in known}
    for hook, chain_name in HOOKS.items():
        if chain_name in names:
            yield f"chain {hook} {{"
            yield f"  type filter hook {hook.lower()} priority {_PRIORITY}; policy accept;"
            yield f"  jump {word(chain_name)}"
            yield "}"


def _rule(rule: Rule, sets: Mapping[str, MemberSet], family: int) -> str:
    matches = (_match(match, sets, family) for match in rule.matches)
    return " ".join((*matches, _target(rule.target, family)))


def _match(match: Match, sets: Mapping[str, MemberSet], family: int) -> str:
    match match:
        case State(name):
            return f"ct state {_STATES[name]}"
        case Protocol(name):
            return f"meta l4proto {word(_PROTOCOLS.get(name, name))}"
        case DestinationPorts(first, last):
            return f"th dport {first:d}-{last:d}"
        case NotSyn():
            return "tcp flags & (fin | syn | rst | ack) != syn"
        case Through(way, interface):
            return f'{"iifname" if way == "in" else "oifname"} "{word(interface)}"'
        case IcmpType(number):
            return f"icmpv6 type {number:d}"
        case InSet():
            return _lookup(match, sets, family)
        case Sampled():
            return "limit rate 1000/second burst 1000 packets"
        case Entered():
            raise NetwatchError("a rule about a bridge's port can not be written as an nft script")


def _lookup(match: InSet, sets: Mapping[str, MemberSet], family: int) -> str:
    """The fields of the set in order; a port stands for its protocol too."""
    each = sets[f"{match.name}{family}"]
    fields = []
    for part, way in zip(_parts(each), match.directions.split(","), strict=True):
        if part == "port":
            fields.append("meta l4proto . th dport")
        elif part == "iface":
            fields.append("iifname")
        else:
            fields.append(f"{_FAMILIES[family]} {'saddr' if way == 'src' else 'daddr'}")
    return f"{' . '.join(fields)} {'!= ' if match.negated else ''}@{word(each.title)}"


def _target(target: Target, family: int) -> str:
    match target:
        case Return():
            return "return"
        case Drop():
            return "drop"
        case Reject():
            return f"reject with {_CONTROL[family]} admin-prohibited"
        case Log(prefix):
            return f'log prefix "{word(prefix)}" group {NFLOG_GROUP}'
        case Jump(chain, back):
            return f"{'jump' if back else 'goto'} {word(chain)}"

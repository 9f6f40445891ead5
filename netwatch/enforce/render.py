"""Typed rules as text for iptables-restore: the last step, and the only one that writes rules.

Everything that becomes text here is a number, a word of a fixed list, or a name that passes a
whitelist; documents, labels and container names never come this far.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from netwatch.enforce.ruleset import (
    Chain,
    DestinationPorts,
    Drop,
    Entered,
    IcmpType,
    InSet,
    Jump,
    Log,
    Match,
    NotSyn,
    Protocol,
    Reject,
    Return,
    Rule,
    Sampled,
    State,
    Target,
    Through,
)
from netwatch.model.errors import NetwatchError

NFLOG_GROUP = 100
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,62}")
_PROHIBITED = {4: "icmp-admin-prohibited", 6: "icmp6-adm-prohibited"}


def word(text: str) -> str:
    """`text`, if it is safe in a rule; raises NetwatchError otherwise, so nothing is applied."""
    if not _WORD.fullmatch(text):
        raise NetwatchError(f"{text[:40]!r} may not become part of a rule", code="unsafe-name")
    return text


def rule_text(rule: Rule, family: int) -> str:
    """A rule without its chain and comment: `-p tcp --dport 80:90 -j RETURN`."""
    parts = [_match(match, family) for match in rule.matches]
    return " ".join((*parts, _target(rule.target, family)))


def _match(match: Match, family: int) -> str:
    match match:
        case State(name):
            return f"-m conntrack --ctstate {word(name)}"
        case Protocol(name):
            return f"-p {word(name)}"
        case DestinationPorts(first, last):
            return f"--dport {first:d}:{last:d}"
        case NotSyn():
            return "! --syn"
        case Through(way, interface):
            return f"{'-i' if way == 'in' else '-o'} {word(interface)}"
        case Entered(port):
            return f"-m physdev --physdev-in {word(port)}"
        case IcmpType(number):
            return f"--icmpv6-type {number:d}"
        case InSet(name, directions, negated):
            sign = "! " if negated else ""
            title = word(f"{name}{family}")
            return f"-m set {sign}--match-set {title} {_directions(directions)}"
        case Sampled(name):
            return (
                "-m hashlimit --hashlimit-upto 10/sec --hashlimit-burst 20"
                f" --hashlimit-mode srcip,dstip,dstport --hashlimit-name nw{word(name)}{family}"
                " -m limit --limit 1000/sec --limit-burst 1000"
            )


def _directions(directions: str) -> str:
    return ",".join("src" if each == "src" else "dst" for each in directions.split(","))


def _target(target: Target, family: int) -> str:
    match target:
        case Return():
            return "-j RETURN"
        case Drop():
            return "-j DROP"
        case Reject():
            return f"-j REJECT --reject-with {_PROHIBITED[family]}"
        case Log(prefix):
            return (
                f"-j NFLOG --nflog-group {NFLOG_GROUP} --nflog-threshold 64"
                f" --nflog-prefix {word(prefix)}"
            )
        case Jump(chain, back):
            return f"{'-j' if back else '-g'} {word(chain)}"


def mark(chain: str, text: str) -> str:
    """The comment that names a rule when it is read back: `nw:` and ten hex digits."""
    return "nw:" + hashlib.sha256(f"{chain} {text}".encode()).hexdigest()[:10]


def chain_lines(chain: Chain, family: int) -> list[str]:
    """The `-A` lines of a chain, each with its mark."""
    lines = []
    for rule in chain.rules:
        text = rule_text(rule, family)
        comment = mark(chain.name, text)
        lines.append(f"-A {word(chain.name)} -m comment --comment {comment} {text}")
    return lines


def chain_marks(chain: Chain, family: int) -> tuple[str, ...]:
    """The marks that a chain has when it is as it should be, in order."""
    return tuple(mark(chain.name, rule_text(rule, family)) for rule in chain.rules)


def jump(hook: str, chain: str) -> str:
    """The rule that leads from a hook to our chain, without its `-I` or `-D`."""
    comment = mark(hook, chain)
    return f"-m comment --comment {comment} -j {word(chain)}"


def create_line(title: str, kind: str, family: int) -> str:
    """`ipset create` of an empty set."""
    room = 1048576 if kind in ("hash:ip,port,ip", "hash:ip,port,net") else 262144
    inet = "inet" if family == 4 else "inet6"
    return f"create {word(title)} {kind} family {inet} maxelem {room}"


_MEMBER = re.compile(r"[0-9a-f.:/]+(,[a-z0-9]+:[0-9]+)?(,[A-Za-z0-9._/:-]+)?")


_MEMBERS = re.compile(rf"(?:{_MEMBER.pattern}\n)*")


def member_lines(verb: str, title: str, members: Iterable[str]) -> list[str]:
    """`add` or `del` of each member, in order; they are looked at all at once."""
    ordered = sorted(members)
    text = "".join(f"{member}\n" for member in ordered)
    if text.count("\n") != len(ordered) or not _MEMBERS.fullmatch(text):
        return [member_line(verb, title, member) for member in ordered]
    head = f"{verb} {word(title)} "
    return [head + member for member in ordered]


def member_line(verb: str, title: str, member: str) -> str:
    """`add` or `del` of one member."""
    if not _MEMBER.fullmatch(member):
        raise NetwatchError(f"{member[:40]!r} can not be a set's member", code="unsafe-name")
    return f"{verb} {word(title)} {member}"

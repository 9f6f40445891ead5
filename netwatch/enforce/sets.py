"""Sets in the kernel, read and changed by netlink: deltas only, hundreds of members a message."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Sequence
from itertools import groupby

from netwatch.enforce import ipset, netlink
from netwatch.enforce.plan import SETS
from netwatch.model.errors import NetwatchError

BUSY_S = 2.0  # nft frees what deleted rules held some moments after the rules are gone
_LACKING = (errno.EINVAL, errno.EOPNOTSUPP, ipset.NO_TYPE)  # no ip_set at all, or not this type
_VERBS = {"add": ipset.ADD, "del": ipset.DEL}


class NotApplied(NetwatchError):
    """The kernel did not take a change."""

    code = "not-applied"


def read_sets() -> dict[str, tuple[str, frozenset[str]]]:
    """Every set of ours in this network namespace: title to (kind, members)."""
    found = {}
    for body in _listing(None):
        title = ipset.listed(body)[0]
        if title.startswith(SETS):
            kind, members = _read_set(title)
            if kind:  # it is gone meanwhile otherwise
                found[title] = kind, frozenset(members)
    return found


def _read_set(title: str) -> tuple[str, list[str]]:
    kind, members = "", []
    for body in _listing(title):
        _, told, more = ipset.listed(body)
        kind = kind or told
        members += more
    return kind, members


def _listing(title: str | None) -> list[bytes]:
    kind = ipset.SUBSYSTEM << 8 | ipset.LIST
    return list(netlink.dump(kind, socket.AF_INET, ipset.listing(title)))


def restore_sets(lines: Sequence[str]) -> None:
    """Do in order what these lines of `ipset restore` say; what is already so is no error.

    Raises NotApplied with the set's title, and the member if it was one that the kernel refused.
    """
    if not lines:
        return
    split = [line.split(" ", 2) for line in lines]
    with netlink.connect() as link:
        for (verb, title), group in groupby(split, key=lambda parts: (parts[0], parts[1])):
            rest = [parts[2] for parts in group if len(parts) > 2]
            if verb in _VERBS:
                _change(link, verb, title, rest)
            elif verb == "create":
                for text in rest:
                    _create(link, title, text.split())
            else:
                _destroy(link, title)


def _change(link: socket.socket, verb: str, title: str, members: Sequence[str]) -> None:
    for request in ipset.members(_VERBS[verb], title, members):
        try:
            netlink.ask(link, request)
        except netlink.Refused as error:
            line = ipset.refused_line(error.answer)
            member = f" {members[line]}" if line is not None else ""
            why = _why(error.number)
            raise NotApplied(f"can not {verb}{member} in the set {title}: {why}") from None


def _create(link: socket.socket, title: str, words: Sequence[str]) -> None:
    """`hash:ip family inet maxelem 65536`."""
    family = 6 if "inet6" in words else 4
    try:
        netlink.ask(link, ipset.create(title, words[0], family, room=int(words[-1])))
    except netlink.Refused as error:
        lacking = error.number in _LACKING
        why = ipset.LACKING if lacking else ipset.refusal(error.number)
        hint = "modprobe ip_set, or use a kernel that has it" if lacking else None
        raise NotApplied(f"can not create the set {title} ({words[0]}): {why}", hint) from None


def _destroy(link: socket.socket, title: str) -> None:
    end = time.monotonic() + BUSY_S
    while True:
        try:
            return netlink.ask(link, ipset.request(ipset.DESTROY, title))
        except netlink.Refused as error:
            if error.number == errno.ENOENT:
                return None
            if error.number != ipset.BUSY or time.monotonic() > end:
                why = _why(error.number)
                raise NotApplied(f"can not destroy the set {title}: {why}") from None
        time.sleep(0.002)


def _why(number: int) -> str:
    return "there is no such set" if number == errno.ENOENT else ipset.refusal(number)

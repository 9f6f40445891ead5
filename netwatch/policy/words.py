"""Who is meant by the words of a person: `web`, `shop/web`, `app=web in shop`, `host`, an address.

The sentences of `policy test` and the ends of `netwatch probe` are read by this one grammar;
labels are those of a Segment (see `short`).
"""

from __future__ import annotations

import ipaddress
import re

from netwatch.policy.fields import meant
from netwatch.policy.ir import Party, Place, World
from netwatch.policy.nodes import Kind, Node, invalid
from netwatch.policy.short import read_labels

EVERYTHING = ("", "anything", "everything", "anybody", "everybody", "any workload")
_IN = re.compile(r"(?P<who>(?:.* )?)in (?P<namespace>[\w.-]+)")


def parties(words: str, world: World, place: Place) -> list[Party]:
    """Everybody who is meant; nobody if a selector selects nobody. Raises InvalidDocument.

    A workload stands without an address, unless the words are its address.
    """
    words = words.removeprefix("the ").strip()
    if words == "host":
        return [Party(host=True)]
    match = _IN.fullmatch(words)
    if match is None:
        return _named(words, None, world, place)
    return _named(match["who"].strip(), match["namespace"], world, place)


def _workloads(who: str, namespace: str | None, world: World) -> list[Party]:
    return [
        Party(workload)
        for workload in world.workloads
        if namespace in (None, workload.namespace)
        and (who in EVERYTHING or who in (workload.name, workload.key, workload.identity))
    ]


def _named(who: str, namespace: str | None, world: World, place: Place) -> list[Party]:
    found = _workloads(who, namespace, world)
    if found or who in EVERYTHING:
        return found
    if re.search(r"[=()]", who):
        selector = read_labels(Node(Kind.TEXT, place, text=who), "the selector")
        return [
            party
            for party in _workloads("", namespace, world)
            if party.workload and selector.matches(party.workload.label_values())
        ]
    try:
        address = str(ipaddress.ip_address(who))
    except ValueError:
        known = [name for w in world.workloads for name in (w.name, w.key)]
        raise invalid(place, f"nobody is called {who[:60]!r}", meant(who, known)) from None
    for workload in world.workloads:
        if address in workload.addresses:
            return [Party(workload, address)]
    return [Party(None, address, host=address in world.host_addresses)]

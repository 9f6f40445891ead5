"""Who comes and who goes is in the kernel's sets before a round of the agent, and stays right."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec
import pytest

from tests.netns.conftest import Said
from tests.netns.test_enforce import API_FROM_WEB, backend, estate, put
from tests.netns.test_quarantine import ONE_BACKEND, on_host

pytestmark = pytest.mark.netns
__all__ = ["backend", "estate", "put"]  # fixtures

NEW = "198.18.1.77"
EDGES = [f"nw-edge4 {NEW},{port},198.18.1.11" for port in ("tcp:80", "udp:53")]
# Rounds of a Watchman on the lab host, and what its source says at once; told is what the kernel
# has of the newcomer after each step.
STORY = """
import json, subprocess, sys, time
from dataclasses import replace
from netwatch.agent.watchman import Watchman
from netwatch.discover.sources import find_source
from netwatch.enforce.sets import read_sets
from netwatch.settings import load

NEW = "198.18.1.77"
source = find_source(load())
source.start(lambda: None)
seen = source.snapshot()
web = next(w for w in seen.workloads if w.name == "web")
other = replace(web, name="web2", addresses=(NEW,), interfaces=(), pid=None)
rogue = replace(other, labels=())
joined = replace(seen, workloads=(*seen.workloads, other))
taken = replace(seen, workloads=(*seen.workloads, rogue))
now = 10**18
watchman = Watchman()
told = {}

def round_of(snapshot, later_s):
    global now
    now += int(later_s * 10**9)
    return watchman(snapshot, now)[0]

def at_once(snapshot):
    watchman.at_once(lambda: snapshot, now)

def note(step):
    held = read_sets()
    told[step] = sorted(
        f"{title} {member}"
        for title in ("nw-known4", "nw-edge4")
        for member in held.get(title, ("", ()))[1]
        if NEW in member
    )

at_once(joined)
note("before the first round nobody knows what to write")
round_of(seen, 1)
note("the round has the newest, not what it began with")
at_once(seen)
note("gone")
at_once(joined)
note("come")
round_of(seen, 0.01)
note("a round that began before")
at_once(taken)
note("another with the address")
at_once(joined)
state = round_of(joined, 0.5)
told["read back"] = [state.problem, len(state.repairs)]
subprocess.run(["ipset", "del", "nw-known4", NEW], check=True)
state = round_of(joined, 6)
note("mended")
told["repairs"] = [len(state.repairs)]
subprocess.run(["ipset", "flush", "nw-edge4"], check=True)
at_once(seen)
at_once(joined)
state = round_of(joined, 0.5)
note("mended beside news")
told["repairs"].append(len(state.repairs))
print(json.dumps(told))
"""


@ONE_BACKEND
def test_members_follow_at_once_and_are_proven_later(put: Callable[..., Said]) -> None:
    """Step by step; what others change meanwhile is mended and told, ours never is."""
    put(API_FROM_WEB)
    said = on_host(sys.executable, "-c", STORY)
    assert said.code == 0, said.err
    all_of_it = [*EDGES, f"nw-known4 {NEW}"]
    assert msgspec.json.decode(said.out) == {
        "before the first round nobody knows what to write": [],
        "the round has the newest, not what it began with": all_of_it,
        "gone": [],
        "come": all_of_it,
        "a round that began before": all_of_it,
        "another with the address": [f"nw-known4 {NEW}"],
        "read back": [None, 0],
        "mended": all_of_it,
        "repairs": [1, 2],
        "mended beside news": all_of_it,
    }

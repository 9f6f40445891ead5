"""No input is worth a traceback, a pause or memory: mutated captures, for as long as is wished.

`make slow` gives it sixty seconds; `FUZZ_S=60` gives it as many as it says, and FUZZ_SEED repeats
a run. Without FUZZ_S it is skipped: the unit run has a small sample of its own (`test_read`).
"""

from __future__ import annotations

import gc
import io
import os
import random
import time
from pathlib import Path

import pytest

from netwatch.capture.files.reading import read
from netwatch.cli.read_formats import _line
from netwatch.model.errors import NetwatchError
from tests.property.mutations import DATA, captures, mutation

SECONDS = float(os.environ.get("FUZZ_S", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "20261122"))

pytestmark = [
    pytest.mark.skipif(not SECONDS, reason="FUZZ_S says for how many seconds; `make slow` does"),
    pytest.mark.skipif(not DATA.exists(), reason="../shared/data/pcaps is not on this machine"),
    pytest.mark.timeout(SECONDS * 3 + 120),
]

# What is promised of a packet, three times over, and what any file costs.
A_PACKET, A_FILE = 3 * 0.050, 0.5
# Growth of the process that is noise: caches have limits, and the allocator keeps some pages.
NOISE = 48 << 20


def consumed(data: bytes) -> int:
    """Read a capture to its end, as the verb does; returns how many frames it had."""
    try:
        result = read(io.BytesIO(data), "mutation")
    except NetwatchError:
        return 1
    lines = [_line(flow, named=False) for flow in result.flows()]
    assert sum(each["client_packets"] + each["server_packets"] for each in lines) == result.packets
    return max(result.frames, 1)


def resident() -> int:
    """Bytes of memory that this process has now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_no_mutation_costs_more_than_it_weighs():
    """No exception, no packet above its time, and no more memory at the end than at the start."""
    draw = random.Random(SEED)
    for _, data, _ in captures():
        consumed(data)
    until = time.monotonic() + SECONDS
    begun, files, packets, worst = None, 0, 0, (0.0, "")
    while time.monotonic() < until:
        name, data = mutation(draw)
        before = time.thread_time()
        frames = consumed(data)
        took = time.thread_time() - before
        files, packets = files + 1, packets + frames
        worst = max(worst, (took / frames, name))
        assert took <= A_FILE + frames * A_PACKET, f"seed {SEED}: {name}, mutation {files}"
        if files == 500:
            begun = resident()
    grown = resident() - (begun or resident())
    print(f"seed {SEED}: {files} captures, {packets} packets, {grown >> 20} MiB more at the end;")
    print(f"the slowest took {worst[0] * 1000:.1f} ms a packet ({worst[1]})")
    assert grown < NOISE

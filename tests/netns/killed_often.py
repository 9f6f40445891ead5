"""A controller that is killed in mid-write, again and again; prints what it had acknowledged.

`python -m tests.netns.killed_often FOLDER TIMES SEED`. The interpreter is started once and forks:
each child opens the folder, sends again what was not acknowledged, as an agent does, and goes on.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from netwatch.model.times import SECOND
from tests.unit.controller.samples import START, Clock, controller, flow, report

FLOWS = 40


def work(folder: Path, sequence: int, acknowledged: int) -> None:
    """Takes reports until it is killed; every fourth is followed by all the upkeep there is."""
    clock = Clock(START + sequence * 60 * SECOND)
    fleet = controller(folder, clock)
    while True:
        now = clock.now = START + sequence * 60 * SECOND
        flows = [flow(sport=n, first_seen=now - SECOND, last_seen=now) for n in range(FLOWS)]
        fleet.ingest(report("a", *flows, sequence=sequence, now=now, losses=(("x", 1),)))
        os.write(acknowledged, sequence.to_bytes(8, "little"))
        sequence += 1
        if sequence % 4 == 0:
            fleet.tick(now + 700 * SECOND * (sequence // 4))


def main() -> None:
    folder, times, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    last = -1
    for _ in range(times):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                work(folder, last + 1, writer)
            finally:
                os._exit(1)
        os.close(writer)
        wanted = chance.randrange(0, 9)
        for _ in range(wanted):
            told = os.read(reader, 8)
            assert len(told) == 8, "it ended by itself"
            last = int.from_bytes(told, "little")
        time.sleep(chance.random() * (0.1 if wanted == 0 else 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, "it ended by itself"
        while told := os.read(reader, 8):
            last = int.from_bytes(told, "little")
        os.close(reader)
    print(json.dumps({"acknowledged": last}))


if __name__ == "__main__":
    main()

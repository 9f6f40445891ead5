"""Mutated captures without end: `python -m tests.bench.fuzz [seconds] [seed]`.

With atheris (`pip install atheris`; it needs no more than that) the mutations are led by what they
reach: `python -m tests.bench.fuzz --atheris FOLDER [options of libFuzzer]` keeps what it found in
FOLDER, which is filled from ../shared/data/pcaps first. Without it, the suite's own mutations are
drawn until the time is over. What breaks is written to the folder for temporary files, and named.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from tests.property.mutations import DATA, captures, mutation
from tests.property.test_robustness import A_FILE, A_PACKET, consumed, resident


def one(data: bytes) -> None:
    """Read it; raises if that takes too long for what it is."""
    before = time.thread_time()
    frames = consumed(data)
    took = time.thread_time() - before
    if took > A_FILE + frames * A_PACKET:
        raise TimeoutError(f"{took:.2f} s for {frames} packets")


def drawn(seconds: float, seed: int) -> int:
    """The suite's mutations; 1 if one broke something."""
    draw, until, files, begun = random.Random(seed), time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        name, data = mutation(draw)
        files += 1
        try:
            one(data)
        except Exception as error:
            broke = Path(tempfile.gettempdir()) / f"netwatch-fuzz-{seed}-{files}.pcap"
            broke.write_bytes(data)
            print(f"seed {seed}: {name}, mutation {files}: {error!r}; kept as {broke}")
            return 1
        if files % 1000 == 0:
            begun = begun or resident()
            grown = (resident() - begun) >> 20
            print(f"{files} captures, {grown} MiB more than after the first 1000", flush=True)
    print(f"seed {seed}: {files} captures, nothing broke")
    return 0


def led(folder: Path, options: list[str]) -> None:
    """atheris: coverage of netwatch leads it; it ends the process itself."""
    import atheris

    folder.mkdir(parents=True, exist_ok=True)
    for name, data, _ in captures():
        (folder / name).write_bytes(data)
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """1 if something broke."""
    if not DATA.exists():
        print("../shared/data/pcaps is not on this machine: there is nothing to mutate")
        return 2
    if arguments[:1] == ["--atheris"]:
        led(Path(arguments[1]), arguments[2:])
    seconds = float(arguments[0]) if arguments else 600
    return drawn(seconds, int(arguments[1]) if len(arguments) > 1 else random.randrange(1 << 30))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The committed object's structures are those that Python reads, and it names no machine.

That it is what its source says: `golden/test_bpf_object.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

from netwatch.capture import ebpf, flowmap
from netwatch.capture.sensor import ENTRY

ROOT = Path(__file__).parents[3]
SOURCE = Path("netwatch/capture/flow.bpf.c")
COMMITTED = ROOT / "netwatch/capture/flow.bpf.o"


def test_the_object_names_no_path_of_the_machine_it_was_made_on() -> None:
    assert b"/home/" not in COMMITTED.read_bytes()
    assert str(ROOT).encode() not in COMMITTED.read_bytes()


def test_the_source_and_python_agree_on_sizes() -> None:
    """ENTRY is the key and the head of the value; a piece begins with its key."""
    source = (ROOT / SOURCE).with_name("state.bpf.h").read_text()
    assert flowmap.KEY_SIZE == ebpf._KEY.size == 40
    assert ENTRY.itemsize == flowmap.KEY_SIZE + flowmap.HEAD_SIZE
    assert ebpf._PIECE.size == 56
    counters = re.search(r"struct statistics {\s+__u64 ([^;]+);", source)
    assert counters is not None
    assert [n.strip().replace("_", "-") for n in counters[1].split(",")] == [*flowmap.STATISTICS]

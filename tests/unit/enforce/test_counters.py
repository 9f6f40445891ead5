"""Totals from the rules' counters: read from text, added over everything that resets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.enforce.counters import Kept, added, counted, file_of, load, save

SAVED = """*filter
:NW-T-DENIED - [0:0]
[9:540] -A NW-DENY -m comment --comment "nw:0123456789" -j NFLOG --nflog-prefix nw:D:x
[41:2460] -A NW-T-DENIED -m comment --comment "nw:0123456789" -j REJECT --reject-with icmp-admin
[3:180] -A NW-T-WOULD-DENY -m comment --comment "nw:0123456789" -j RETURN
[2:120] -A NW-STRICT -m comment --comment "nw:0" -m set --match-set nw-iso-in4 dst -j DROP
[5:300] -A NW-STRICT -m comment --comment "nw:1" -m set --match-set nw-iso-in4 src -j DROP
[7:420] -A DOCKER-USER -j DROP
COMMIT
"""


def test_only_what_ends_a_denial_is_counted() -> None:
    """Not the sampled log, and nobody else's rules."""
    assert counted(SAVED) == {"denied": 41, "would-deny": 3, "invalid": 7}


@pytest.mark.parametrize(
    ("reads", "total"),
    [
        pytest.param([("e", 5), ("e", 9)], 9, id="it grows"),
        pytest.param([("e", 9), ("e", 2)], 11, id="zeroed, and counted on"),
        pytest.param([("e", 9), ("e", 0), ("e", 1)], 10, id="flushed and mended"),
        pytest.param([("e", 9), ("f", 9)], 18, id="removed and applied anew, or another boot"),
        pytest.param([("e", 9), ("e", 9)], 9, id="nothing new"),
    ],
)
def test_a_total_never_falls(reads: list[tuple[str, int]], total: int) -> None:
    kept = Kept()
    for epoch, count in reads:
        after = added(kept, {"denied": count} if count else {}, epoch)
        assert after.total.get("denied", 0) >= kept.total.get("denied", 0)
        kept = after
    assert kept.total["denied"] == total


def test_totals_survive_and_a_damaged_file_is_no_total(tmp_path: Path) -> None:
    file = file_of(tmp_path, "../evil host")
    assert file.parent == tmp_path
    kept = added(Kept(since=7), {"denied": 3}, "e")
    save(file, kept)
    assert load(file) == kept
    file.write_text("{")
    assert load(file) == Kept()

"""What stands over a reboot: read as it was written, or not at all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from netwatch.enforce import kernel, standing
from netwatch.model.snapshot import Quarantine

DOCUMENTS = ([(".yaml", b"kind: Segment\n"), (".json", b"{}")], "nft", 7)
HELD = (Quarantine("shop/web", ("192.0.2.7/32",), None),)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own."""
    monkeypatch.setenv("NETWATCH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(kernel, "RUN", tmp_path / "run")
    monkeypatch.setattr(standing, "RUN", tmp_path / "run")
    return tmp_path / "state"


def test_what_is_kept_is_read_and_each_part_by_itself() -> None:
    assert standing.read() == (standing.Standing(), None)
    assert standing.keep(documents=DOCUMENTS) is None
    assert standing.keep(quarantined=HELD, closed=("br-b", "br-a")) is None
    found, problem = standing.read()
    assert (found.documents, found.backend, found.at) == (
        ((".yaml", "kind: Segment\n"), (".json", "{}")),
        "nft",
        7,
    )
    assert (found.quarantined, found.closed, problem) == (HELD, ("br-a", "br-b"), None)
    standing.forget(documents=False, quarantined=True)
    assert standing.read()[0].documents == found.documents
    standing.forget()
    assert not list(standing.place().parent.iterdir())


def test_bridges_alone_are_nothing_to_bring_back() -> None:
    assert standing.keep(closed=("br-a",)) is None
    assert not standing.place().exists()


@pytest.mark.parametrize("seed", range(20))
def test_damage_anywhere_is_seen_and_the_copy_before_is_taken(seed: int) -> None:
    """F6: a bit that flipped, an end that is cut off; never "nothing is to be enforced"."""
    draw = random.Random(seed)
    standing.keep(documents=DOCUMENTS)
    standing.keep(quarantined=HELD)
    file = standing.place()
    data = bytearray(file.read_bytes())
    at = draw.randrange(len(data))
    data[at] ^= 1 << draw.randrange(8)
    file.write_bytes(data[:at] if seed % 2 else data)
    found, problem = standing.read()
    assert found.documents is not None and not found.quarantined
    assert problem and str(file) in problem
    file.with_suffix(".before").write_bytes(data[: at // 2])
    with pytest.raises(standing.Damaged):
        standing.read()


def test_a_folder_that_can_not_be_written_is_a_sentence(folder: Path) -> None:
    folder.write_text("no folder")
    told = standing.keep(documents=DOCUMENTS)
    assert told and "would not come back" in told
    assert len(standing.switch_off()) == 1
    assert standing.is_off()

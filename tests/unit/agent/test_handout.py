"""What an agent was handed out: taken whole, kept for the next start, obeyed only where it may.

That the kernel holds it is shown in tests/netns/test_policy_versions.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from netwatch.agent.handout import FILE, Handout
from netwatch.model.policy_version import NO_DOCUMENTS, Document, Wanted, digest_of
from netwatch.model.snapshot import Snapshot

DB = """apiVersion: netwatch/v1
kind: Segment
metadata: {name: db, namespace: shop}
spec: {governs: app=db, rules: [{from: app=web, ports: 5432}]}
"""
SHA256 = digest_of([DB])
WANTED = Wanted(1, 1, SHA256, None, (Document("db.yaml", DB),))


@pytest.fixture
def handout(tmp_path: Path) -> Handout:
    return Handout(tmp_path, enforce=False)


def titles(handout: Handout) -> list[str]:
    return [policy.name for policy in handout.drafted() or ()]


def test_nothing_is_held_at_first(handout: Handout) -> None:
    """Also after a controller said that it wants nothing."""
    handout.take(None)
    assert (handout.holds(), handout.drafted()) == ("", None)


def test_documents_are_held_by_their_hash(handout: Handout) -> None:
    """An answer without documents refers to those that are held, and to no others."""
    handout.take(WANTED)
    handout.take(replace(WANTED, turn=2, confirm_s=3.0, documents=None))
    assert (handout.holds(), titles(handout)) == (SHA256, ["db"])
    handout.take(replace(WANTED, turn=3, sha256="ab" * 32, documents=None))
    assert (handout.holds(), titles(handout)) == (SHA256, ["db"])
    handout.take(Wanted(4, 0, NO_DOCUMENTS, None, ()))
    assert (handout.holds(), titles(handout)) == (NO_DOCUMENTS, [])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(replace(WANTED, sha256="ab" * 32), id="another hash"),
        pytest.param(
            Wanted(1, 1, digest_of(["kind: x"]), None, (Document("a", "kind: x"),)),
            id="of a version of netwatch to come",
        ),
    ],
)
def test_what_can_not_be_right_is_judged_by_nobody(handout: Handout, wrong: Wanted) -> None:
    """It is held, so that it is not sent again and again, and not used."""
    handout.take(wrong)
    assert (handout.holds(), handout.drafted()) == (wrong.sha256, None)


def test_who_only_observes_does_not_look_at_the_kernel(handout: Handout) -> None:
    """No program, no lock, no file under /run: this runs without root and without iptables."""
    handout.take(WANTED)
    handout.settle(Snapshot("a"), 0)
    assert handout.problem is None


def test_who_enforces_judges_by_what_is_in_force(tmp_path: Path) -> None:
    handout = Handout(tmp_path, enforce=True)
    handout.take(WANTED)
    assert handout.drafted() is None


def test_what_was_kept_is_held_at_the_next_start(tmp_path: Path) -> None:
    """For the time until the controller answers."""
    (tmp_path / FILE).write_bytes(msgspec.json.encode(WANTED))
    assert titles(Handout(tmp_path, enforce=False)) == ["db"]


@pytest.mark.parametrize("data", [b"", b"{}", msgspec.json.encode(WANTED)[:-9]])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, data: bytes) -> None:
    """The controller sends it again; the rules in the kernel stay meanwhile."""
    (tmp_path / FILE).write_bytes(data)
    assert Handout(tmp_path, enforce=True).holds() == ""

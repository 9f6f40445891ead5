"""The audit trail: every line follows from the one before, and whoever meddles is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netwatch.audit import FILE, HEAD, START, Actor, Damaged, append, read, this_actor, verify
from netwatch.model.errors import NetwatchError

OPERATOR = Actor(0, 1000, "ada")
NOW = 1_700_000_000_000_000_000


def add(folder: Path, *subjects: str) -> str:
    """One line for each; the hash of the last."""
    made = START
    for subject in subjects:
        entry = append(
            folder,
            "capture.started",
            subject=subject,
            actor=OPERATOR,
            details={"bytes": 7, "filter": None},
            now=NOW,
        )
        made = entry.hash
    return made


def test_a_line_says_who_did_what_when_to_whom(tmp_path: Path) -> None:
    """One JSON object a line; the first holds zeros in place of a line before it."""
    add(tmp_path, "a/shop/web", "a/shop/api")
    first, second = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert (first["number"], first["previous"]) == (1, START)
    assert (second["number"], second["previous"]) == (2, first["hash"])
    assert first["time"] == "2023-11-14T22:13:20.000000Z"
    assert first["actor"] == {"uid": 0, "login_uid": 1000, "sudo_user": "ada"}
    assert (first["action"], first["subject"]) == ("capture.started", "a/shop/web")
    assert first["details"] == {"bytes": 7, "filter": None}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_whole_trail_holds_and_tells_its_head(tmp_path: Path) -> None:
    head = add(tmp_path, "a", "b", "c")
    found = verify(tmp_path)
    assert (found.entries, found.head, found.broken) == (3, head, None)


def test_no_trail_is_an_empty_one(tmp_path: Path) -> None:
    """Nothing was audited yet; that is no damage."""
    found = verify(tmp_path)
    assert (found.entries, found.head, found.broken) == (0, START, None)
    assert read(tmp_path, last=9) == ()


def lines_changed(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def meddle(folder: Path) -> None:
        file = folder / FILE
        file.write_text("".join(change(file.read_text().splitlines(keepends=True))))

    return meddle


def head_gone(folder: Path) -> None:
    (folder / HEAD).unlink()


def rewritten(folder: Path) -> None:
    """A whole new chain in place of the last two lines, with the old head."""
    old = (folder / HEAD).read_text()
    lines_changed(lambda lines: lines[:1])(folder)
    add(folder, "b", "another")
    (folder / HEAD).write_text(old)


@pytest.mark.parametrize(
    ("meddle", "line", "words"),
    [
        pytest.param(
            lines_changed(lambda lines: [lines[0], lines[1].replace('"b"', '"x"'), lines[2]]),
            2,
            "was changed",
            id="a word is changed",
        ),
        pytest.param(
            lines_changed(lambda lines: [lines[0], lines[1].replace(",", ", ", 1), lines[2]]),
            2,
            "was changed",
            id="a space is put in",
        ),
        pytest.param(
            lines_changed(lambda lines: [lines[0], lines[2]]), 2, "does not follow", id="removed"
        ),
        pytest.param(
            lines_changed(lambda lines: [lines[1], lines[0], lines[2]]),
            1,
            "does not follow",
            id="in another order",
        ),
        pytest.param(
            lines_changed(lambda lines: [lines[0], lines[0], *lines[1:]]),
            2,
            "does not follow",
            id="twice",
        ),
        pytest.param(
            lines_changed(lambda lines: lines[:2]), 3, "missing at the end", id="cut off"
        ),
        pytest.param(lines_changed(lambda lines: []), 1, "missing at the end", id="emptied"),
        pytest.param(
            lines_changed(lambda lines: [*lines, '{"number": 4}\n']), 4, "no entry", id="forged"
        ),
        pytest.param(
            lines_changed(lambda lines: [*lines, "\xff\n"]), 4, "no entry", id="no text at all"
        ),
        pytest.param(
            lines_changed(lambda lines: [*lines[:2], lines[2][:-9]]), 3, "not whole", id="torn"
        ),
        pytest.param(head_gone, None, "is gone", id="the head is gone"),
        pytest.param(rewritten, 3, "is not the line", id="written anew"),
    ],
)
def test_whoever_meddles_is_found_out(
    tmp_path: Path, meddle: Callable[[Path], None], line: int | None, words: str
) -> None:
    add(tmp_path, "a", "b", "c")
    meddle(tmp_path)
    found = verify(tmp_path)
    assert found.broken is not None
    assert words in found.broken
    assert found.line == line


def test_a_chain_written_anew_with_its_head_shows_to_whoever_noted_the_old_one(
    tmp_path: Path,
) -> None:
    """This is the limit of what a file can prove of itself."""
    noted = add(tmp_path, "a", "b")
    add(tmp_path, "c")
    assert verify(tmp_path, head=noted).broken is None
    for name in (FILE, HEAD):
        (tmp_path / name).unlink()
    add(tmp_path, "a", "another", "c")
    assert verify(tmp_path).broken is None
    assert verify(tmp_path, head=noted).broken is not None


def test_a_line_of_which_a_power_cut_left_a_part_is_replaced(tmp_path: Path) -> None:
    """It was never promised; the chain goes on from the last whole line."""
    add(tmp_path, "a", "b")
    with (tmp_path / FILE).open("a") as stream:
        stream.write('{"number":3,"ti')
    add(tmp_path, "c")
    assert verify(tmp_path).entries == 3
    assert verify(tmp_path).broken is None


def test_a_head_that_a_power_cut_kept_old_is_no_damage(tmp_path: Path) -> None:
    """It is written after the line."""
    add(tmp_path, "a")
    old = (tmp_path / HEAD).read_text()
    add(tmp_path, "b", "c")
    (tmp_path / HEAD).write_text(old)
    assert verify(tmp_path).broken is None


def test_a_trail_that_ends_with_nonsense_is_not_continued(tmp_path: Path) -> None:
    add(tmp_path, "a")
    with (tmp_path / FILE).open("a") as stream:
        stream.write("nonsense\n")
    with pytest.raises(Damaged, match="no entry"):
        add(tmp_path, "b")


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetwatchError, match="can not be written") as refused:
        add(tmp_path / "file", "a")
    assert refused.value.code == "not-audited"


def test_hostile_texts_are_bounded_and_stay_on_their_line(tmp_path: Path) -> None:
    """Whoever names a container can neither end a line nor fill the disk."""
    add(tmp_path, 'a"}\n{"number":9}\x1b[2J\udcff' + "x" * 9999, "b")
    assert len((tmp_path / FILE).read_text().splitlines()) == 2
    assert (tmp_path / FILE).stat().st_size < 3000
    assert verify(tmp_path).broken is None
    assert [entry.number for entry in read(tmp_path, last=1)] == [2]


def test_the_longest_line_can_be_read_back(tmp_path: Path) -> None:
    """Every text at its limit, of characters that JSON writes as six."""
    details: dict[str, str | int | bool | None] = {f"{n:064}": "\x01" * 999 for n in range(99)}
    for _ in range(2):
        append(tmp_path, "do", subject="\x01" * 999, actor=OPERATOR, details=details, now=0)
    assert verify(tmp_path).broken is None
    assert verify(tmp_path).entries == 2


def test_sudo_is_a_claim_that_is_kept_as_one() -> None:
    assert this_actor({"SUDO_USER": "ada"}).sudo_user == "ada"
    assert this_actor({}).sudo_user is None

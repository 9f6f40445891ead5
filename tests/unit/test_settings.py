"""A setting comes from flag, environment, file or default, in this order; a wrong one is named."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from netwatch.model.errors import InvalidDocument
from netwatch.settings import NAMES, Settings, load


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("flags", "environment", "file", "expected"),
    [
        pytest.param({}, {}, "", Settings().interval, id="default"),
        pytest.param({}, {}, "interval: 2", 2.0, id="file"),
        pytest.param({}, {"NETWATCH_INTERVAL": "3"}, "interval: 2", 3.0, id="environment"),
        pytest.param({"interval": 4.0}, {"NETWATCH_INTERVAL": "3"}, "interval: 2", 4.0, id="flag"),
        pytest.param(
            {"interval": None}, {"NETWATCH_INTERVAL": "3"}, "", 3.0, id="a flag not given"
        ),
    ],
)
def test_the_nearest_wins(
    tmp_path: Path,
    flags: dict[str, object],
    environment: dict[str, str],
    file: str,
    expected: float,
) -> None:
    assert load(flags, environment, write(tmp_path, a=file)).interval == expected


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = write(tmp_path, b="interval: 2", a="interval: 1\ncapture: tcx")
    found = load({}, {}, folder)
    assert (found.interval, found.capture) == (2.0, "tcx")


def test_without_a_folder_everything_is_as_documented(tmp_path: Path) -> None:
    """Only the host's name is found out."""
    assert load({}, {}, tmp_path / "none") == Settings(host=socket.gethostname())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("interval", "0.5", 0.5),
        ("spool_bytes", "1024", 1024),
        ("webhook_allow_private", "1", True),
        ("webhook_allow_private", "false", False),
        ("webhook_allow_private", "TRUE", True),
        ("listen", "127.0.0.1:0", "127.0.0.1:0"),
        ("agent_token", "0123", "0123"),
    ],
)
def test_the_environment_holds_text_and_the_setting_its_type(
    tmp_path: Path, name: str, text: str, value: object
) -> None:
    found = load({}, {f"NETWATCH_{name.upper()}": text}, tmp_path)
    assert getattr(found, name) == value
    assert type(getattr(found, name)) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("capture: tcx\nintervall: 2", 2, "mean interval?", id="a misspelt key"),
        pytest.param("xyzzy: 2", 1, "known: host, state", id="a key like no other"),
        pytest.param("interval: often", 1, "a number", id="no number"),
        pytest.param("\nspool_bytes: 1.5", 2, "a whole number", id="no whole number"),
        pytest.param("webhook_allow_private: perhaps", 1, "true or false", id="neither"),
        pytest.param("capture: [", 1, "name: value", id="no YAML"),
        pytest.param("- interval", 1, "name: value", id="no mapping"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_what_would_be_right(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load({}, {}, write(tmp_path, a=text))
    assert caught.value.file == str(tmp_path / "a.yaml")
    assert caught.value.line == line
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda file: file.write_bytes(b"host: \xff"), "UTF-8", id="no text"),
        pytest.param(lambda file: file.mkdir(), "can not be read", id="a folder"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(tmp_path / "a.yaml")
    with pytest.raises(InvalidDocument, match=words) as caught:
        load({}, {}, tmp_path)
    assert caught.value.file == str(tmp_path / "a.yaml")
    assert caught.value.hint


@pytest.mark.parametrize("name", [n for n in NAMES if not isinstance(getattr(Settings(), n), str)])
def test_a_wrong_value_in_the_environment_names_the_variable(tmp_path: Path, name: str) -> None:
    variable = f"NETWATCH_{name.upper()}"
    with pytest.raises(InvalidDocument) as caught:
        load({}, {variable: "no such value"}, tmp_path)
    assert caught.value.file == variable
    assert caught.value.hint

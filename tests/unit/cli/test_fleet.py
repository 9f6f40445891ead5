"""How the reading verbs find their controller, and what they say where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from netwatch.cli import cli
from netwatch.cli.fleet import Remote, remote
from netwatch.model.errors import Unreachable


def test_without_a_controller_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="netwatch up") as error:
        remote({}, tmp_path)
    assert error.value.exit_code == 4


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/", "http://", "file:///etc/passwd"])
def test_an_url_that_is_none_is_unreachable_not_a_crash(url: str) -> None:
    environment = {"NETWATCH_URL": url, "NETWATCH_TOKEN": "any"}
    result = CliRunner().invoke(cli, ["hosts"], env=environment)
    assert isinstance(result.exception, Unreachable)


def test_the_state_folder_names_the_controller_where_the_environment_does_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "url").write_text("http://127.0.0.1:1\n")
    (tmp_path / "token").write_text("from-the-file\n")
    assert remote({}, tmp_path) == Remote("http://127.0.0.1:1", "from-the-file")
    assert remote({"NETWATCH_TOKEN": "t"}, tmp_path) == Remote("http://127.0.0.1:1", "t")

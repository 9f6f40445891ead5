"""The reading verbs against a controller on loopback: data, tables, and what fails how."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netwatch.api.server import listen_on
from netwatch.cli import cli
from netwatch.cli.fleet import EDGE_HEADINGS, Remote, followed, remote
from netwatch.model.errors import NetwatchError, Unreachable
from tests.fakes import TOKEN, FakeController, edge, flows_of, peer, serve, shop, workload


@pytest.fixture
def controller() -> FakeController:
    return shop()


@pytest.fixture
def url(controller: FakeController) -> Iterator[str]:
    listener = serve(controller)
    yield listener.url
    listener.stop()


def run(*arguments: str, url: str, token: str = TOKEN) -> Result:
    environment = {"NETWATCH_URL": url, "NETWATCH_TOKEN": token}
    return CliRunner().invoke(cli, arguments, env=environment)


@pytest.mark.parametrize(
    ("verb", "number"),
    [("workloads", 13), ("edges", 21), ("flows", 63), ("hosts", 3), ("alerts", 3)],
)
def test_with_json_a_list_is_one_object_as_the_interface_says(
    url: str, verb: str, number: int
) -> None:
    result = run(verb, "--json", url=url)
    answer = json.loads(result.stdout)
    assert list(answer) == ["ok", verb, "next", "losses"]
    assert (answer["ok"], len(answer[verb]), answer["next"]) == (True, number, None)


def test_a_table_has_a_line_for_each_row_and_losses_go_to_stderr(url: str) -> None:
    result = run("edges", "--encryption", "plaintext", "--namespace", "ops", url=url)
    assert result.exit_code == 0
    heading, line = result.stdout.splitlines()
    assert heading.split() == list(EDGE_HEADINGS)
    assert line.split()[:5] == ["a/ops/metrics", "a/shop/api", "9102/tcp", "plaintext", "allow"]
    assert "120 ring-full" in result.stderr


def test_what_staged_policies_would_deny_is_said_so(url: str) -> None:
    assert "would-deny" in run("edges", "--workload", "a/batch/report", url=url).stdout


def test_all_pages_of_a_list_are_one_answer(url: str, controller: FakeController) -> None:
    many = tuple(workload(f"w{number}") for number in range(1500))
    controller.change(workloads=many)
    answer = json.loads(run("workloads", "--json", url=url).stdout)
    assert len({each["id"] for each in answer["workloads"]}) == 1500


@pytest.mark.timeout(20)
def test_followed_flows_are_printed_once_and_again_when_they_grow(
    url: str, controller: FakeController
) -> None:
    """One object a line, without `ok`, oldest first; nothing that did not change comes again."""
    known = flows_of(edge(peer(workload("x")), peer(workload("y")), 80, "plaintext"), 2)
    controller.change(flows=known)
    stream = followed(Remote(url, TOKEN), {"limit": 10})
    first = [next(stream), next(stream)]
    assert [f["client"]["port"] for f in first] == [40001, 40000]
    assert "ok" not in first[0]
    added = flows_of(edge(peer(workload("x")), peer(workload("z")), 81, "plaintext"), 1)
    controller.change(flows=(*added, *known))
    assert next(stream)["server"]["port"] == 81
    stream.close()


def test_without_a_controller_the_exit_code_is_four_and_the_sentence_says_what_to_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(Unreachable, match="netwatch up") as error:
        remote({}, tmp_path)
    assert error.value.exit_code == 4
    with listen_on("127.0.0.1:0") as bound:
        port = bound.getsockname()[1]
    result = run("hosts", url=f"http://127.0.0.1:{port}")
    assert isinstance(result.exception, Unreachable)
    assert f"127.0.0.1:{port}" in str(result.exception)


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/", "http://", "file:///etc/passwd"])
def test_an_url_that_is_none_is_unreachable_not_a_crash(url: str) -> None:
    assert isinstance(run("hosts", url=url).exception, Unreachable)


def test_a_wrong_token_is_an_error_of_its_own(url: str) -> None:
    error = run("hosts", url=url, token="wrong").exception
    assert isinstance(error, NetwatchError)
    assert (error.code, error.exit_code) == ("unauthorized", 1)


def test_the_state_folder_names_the_controller_where_the_environment_does_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "url").write_text("http://127.0.0.1:1\n")
    (tmp_path / "token").write_text("from-the-file\n")
    assert remote({}, tmp_path) == Remote("http://127.0.0.1:1", "from-the-file")
    assert remote({"NETWATCH_TOKEN": "t"}, tmp_path) == Remote("http://127.0.0.1:1", "t")

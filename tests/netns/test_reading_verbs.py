"""The reading verbs against a controller on loopback: data, tables, and what fails how."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from netwatch.api.server import listen_on
from netwatch.cli import cli
from netwatch.cli.fleet import EDGE_HEADINGS, Remote
from netwatch.cli.flows import followed
from netwatch.model.errors import NetwatchError, Unreachable
from tests.fakes import TOKEN, FakeController, edge, flows_of, peer, serve, shop, workload

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def shop_url() -> Iterator[str]:
    """The shop estate, once for all tests that only read it."""
    listener = serve(shop())
    yield listener.url
    listener.stop()


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
    shop_url: str, verb: str, number: int
) -> None:
    result = run(verb, "--json", url=shop_url)
    answer = json.loads(result.stdout)
    gaps = ["gaps"] if verb in ("edges", "flows") else []
    assert list(answer) == ["ok", verb, "next", "losses", *gaps]
    assert (answer["ok"], len(answer[verb]), answer["next"]) == (True, number, None)


def test_a_table_has_a_line_for_each_row_and_losses_go_to_stderr(shop_url: str) -> None:
    result = run("edges", "--encryption", "plaintext", "--namespace", "ops", url=shop_url)
    assert result.exit_code == 0
    heading, line = result.stdout.splitlines()
    assert heading.split() == list(EDGE_HEADINGS)
    assert line.split()[:5] == ["a/ops/metrics", "a/shop/api", "9102/tcp", "plaintext", "allow"]
    assert "120 ring-full" in result.stderr


def test_what_staged_policies_would_deny_is_said_so(shop_url: str) -> None:
    assert "would-deny" in run("edges", "--workload", "a/batch/report", url=shop_url).stdout


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


def test_a_controller_that_does_not_answer_is_named() -> None:
    with listen_on("127.0.0.1:0") as bound:
        port = bound.getsockname()[1]
    result = run("hosts", url=f"http://127.0.0.1:{port}")
    assert isinstance(result.exception, Unreachable)
    assert f"127.0.0.1:{port}" in str(result.exception)


def test_a_wrong_token_is_an_error_of_its_own(shop_url: str) -> None:
    error = run("hosts", url=shop_url, token="wrong").exception
    assert isinstance(error, NetwatchError)
    assert (error.code, error.exit_code) == ("unauthorized", 1)

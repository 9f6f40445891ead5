"""Commands end in time, get no shell, and say what failed in their own first line."""

from __future__ import annotations

import time

import pytest

from netwatch.kernel import commands
from netwatch.kernel.commands import CommandFailed, CommandMissing, Outcome


@pytest.mark.parametrize(
    ("arguments", "feed", "outcome"),
    [
        pytest.param(["true"], None, Outcome(0, "", ""), id="nothing said"),
        pytest.param(["sh", "-c", "exit 3"], None, Outcome(3, "", ""), id="its exit code"),
        pytest.param(
            ["sh", "-c", "echo out; echo err >&2"], None, Outcome(0, "out\n", "err\n"), id="both"
        ),
        pytest.param(["cat"], "fed", Outcome(0, "fed", ""), id="what it is fed"),
        pytest.param(
            ["echo", "$(id)", "; id", "`id`"],
            None,
            Outcome(0, "$(id) ; id `id`\n", ""),
            id="shell",
        ),
        pytest.param(["printf", r"\377"], None, Outcome(0, "\ufffd", ""), id="no text"),
    ],
)
def test_what_a_command_leaves(arguments: list[str], feed: str | None, outcome: Outcome) -> None:
    """Arguments are only arguments: no shell reads them."""
    assert commands.run(arguments, feed=feed) == outcome


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("no-such-program", "no-such-program"),
        ("ip6tables-legacy-no-such-save", "iptables"),
    ],
)
def test_a_missing_program_is_named_with_its_package(program: str, package: str) -> None:
    with pytest.raises(CommandMissing) as caught:
        commands.run([program, "-V"])
    assert program in caught.value.message
    assert caught.value.hint == f"install it: apt-get install {package}"
    assert not commands.available(program)


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("ip6tables", "iptables"),
        ("iptables-nft-save", "iptables"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("ipset", "ipset"),
    ],
)
def test_every_program_of_ours_has_a_package(program: str, package: str) -> None:
    assert commands.package_of(program) == package


def test_a_command_that_hangs_is_killed_at_its_deadline() -> None:
    begun = time.monotonic()
    with pytest.raises(CommandFailed, match="did not end within 0.05 s") as caught:
        commands.run(["tail", "-f", "/dev/null"], deadline_s=0.05)
    assert time.monotonic() - begun < 5
    assert caught.value.hint


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(
            "echo first >&2; echo second >&2; exit 2", "ended with 2: first", id="stderr"
        ),
        pytest.param("echo out; exit 1", "ended with 1: out", id="stdout, where stderr is empty"),
        pytest.param("exit 9", "ended with 9: it said nothing", id="nothing"),
    ],
)
def test_a_failure_is_told_in_the_programs_words(script: str, said: str) -> None:
    with pytest.raises(CommandFailed, match=said):
        commands.check(["sh", "-c", script])


def test_check_gives_what_was_printed() -> None:
    assert commands.check(["echo", "out"]) == "out\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("exit 4", 4, id="ends by itself"),
        pytest.param("exec tail -f /dev/null", -9, id="has to be killed"),
    ],
)
def test_a_child_is_waited_for_until_the_deadline_and_no_longer(script: str, code: int) -> None:
    child = commands.start(["sh", "-c", script])
    assert commands.wait(child, deadline_s=5 if code > 0 else 0.05) == code


def test_a_child_has_the_environment_that_it_is_given() -> None:
    child = commands.start(["/bin/sh", "-c", "exit $CODE"], environment={"CODE": "7"})
    assert commands.wait(child, deadline_s=5) == 7

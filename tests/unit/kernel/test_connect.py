"""What an error number of a connection means."""

from __future__ import annotations

import errno

import pytest

from netwatch.kernel.connect import judge
from netwatch.model.errors import NetwatchError


@pytest.mark.parametrize(
    ("code", "result"),
    [
        pytest.param(0, "open", id="no error"),
        pytest.param(errno.ECONNREFUSED, "refused", id="RST or port unreachable"),
        pytest.param(errno.ECONNRESET, "refused", id="RST after the handshake"),
        pytest.param(errno.EACCES, "filtered", id="ICMPv6 prohibited"),
        pytest.param(errno.EHOSTUNREACH, "filtered", id="ICMP prohibited, or no neighbour"),
        pytest.param(errno.ENETUNREACH, "filtered", id="no route"),
        pytest.param(errno.ETIMEDOUT, "filtered", id="silence"),
        pytest.param(errno.EPERM, "filtered", id="dropped on the way out"),
    ],
)
def test_only_the_end_itself_refuses(code: int, result: str) -> None:
    """The three results of a connection: a refused port was reached, a filtered one was not."""
    assert judge(code) == result


def test_what_is_no_answer_at_all_is_an_error() -> None:
    """A lack of ports or memory says nothing about the other end."""
    with pytest.raises(NetwatchError, match="could not be tried"):
        judge(errno.EADDRNOTAVAIL)

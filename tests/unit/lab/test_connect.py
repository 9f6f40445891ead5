"""What an error number of a connection means."""

from __future__ import annotations

import errno

import pytest

from netwatch.lab.connect import judge
from netwatch.model.errors import NetwatchError


@pytest.mark.parametrize(
    ("code", "waited_s", "result"),
    [
        pytest.param(0, 0.1, "open", id="no error"),
        pytest.param(errno.ECONNREFUSED, 0.1, "refused", id="RST or port unreachable"),
        pytest.param(errno.ECONNRESET, 0.1, "refused", id="RST after the handshake"),
        pytest.param(errno.EACCES, 0.1, "refused", id="ICMPv6 prohibited"),
        pytest.param(errno.EHOSTUNREACH, 0.1, "refused", id="ICMP prohibited"),
        pytest.param(errno.EHOSTUNREACH, 3.1, "filtered", id="no neighbour answered"),
        pytest.param(errno.ENETUNREACH, 0.0, "refused", id="no route"),
        pytest.param(errno.ETIMEDOUT, 2.0, "filtered", id="silence"),
        pytest.param(errno.EPERM, 0.0, "filtered", id="dropped on the way out"),
    ],
)
def test_an_answer_of_no_is_refused_and_no_answer_is_filtered(
    code: int, waited_s: float, result: str
) -> None:
    """The three results of `lab connect`."""
    assert judge(code, waited_s=waited_s) == result


def test_what_is_no_answer_at_all_is_an_error() -> None:
    """A lack of ports or memory says nothing about the other end."""
    with pytest.raises(NetwatchError, match="could not be tried"):
        judge(errno.EADDRNOTAVAIL, waited_s=0.0)

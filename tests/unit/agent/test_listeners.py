"""Who of the sockets of a namespace is a listener."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.agent.listeners import listening
from netwatch.agent.tables import shown

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid\n"


def line(local: str, state: str) -> str:
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 9 1\n"


@pytest.mark.parametrize(
    ("file", "local", "state", "found"),
    [
        pytest.param("tcp", "00000000:1538", "0A", {("tcp", 5432)}, id="listening"),
        pytest.param("tcp", "00000000:1538", "01", set(), id="established is no listener"),
        pytest.param("tcp6", "0" * 32 + ":01BB", "0A", {("tcp", 443)}, id="IPv6"),
        pytest.param("udp", "00000000:0035", "07", {("udp", 53)}, id="unconnected UDP"),
        pytest.param("udp", "00000000:9C40", "07", set(), id="an ephemeral port is a client's"),
        pytest.param("udp", "00000000:0035", "01", set(), id="connected UDP"),
    ],
)
def test_listeners(tmp_path: Path, file: str, local: str, state: str, found: object) -> None:
    """Only who waits for others is a listener."""
    folder = tmp_path / "42" / "net"
    folder.mkdir(parents=True)
    (folder / file).write_text(HEAD + line(local, state))

    assert listening(42, lambda pid: shown(pid, tmp_path)) == found


def test_a_process_that_is_gone_listens_to_nothing(tmp_path: Path) -> None:
    """A workload may end between two looks."""
    assert listening(42, lambda pid: shown(pid, tmp_path)) == frozenset()

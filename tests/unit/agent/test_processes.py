"""Which process holds a socket, read from a folder that looks like /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch.agent.processes import Processes
from netwatch.agent.tables import shown
from netwatch.model.flow import Process
from netwatch.model.times import SECOND

HEAD = "  sl  local_address rem_address   st tx_queue …\n"
TABLES = {
    # 198.18.0.2:80 listening; the same to 198.18.0.3:40000 accepted; a TIME_WAIT of nobody
    "tcp": ["020012C6:0050 00000000:0000 0A 500", "020012C6:0050 030012C6:9C40 01 501",
            "020012C6:0050 030012C6:9C41 06 0"],
    # an IPv6 socket that accepted IPv4: 198.18.0.2:81 and 198.18.0.3:40001; 2001:db8::2 too
    "tcp6": ["0000000000000000FFFF0000020012C6:0051 0000000000000000FFFF0000030012C6:9C41 01 502",
             "B80D0120000000000000000002000000:0052 B80D0120000000000000000003000000:9C42 01 503"],
    "udp": ["00000000:0035 00000000:0000 07 504", "00000000:0222 00000000:0000 07 505",
            "020012C6:0222 00000000:0000 07 506"],
    "udp6": [],
}  # fmt: skip
WEB, PEER = "198.18.0.2", "198.18.0.3"
NGINX = Process(10, "/usr/sbin/nginx", 33, "www-data")
OTHER = Process(11, "/opt/other", 1000, None)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Two processes of one namespace (10 and 11), and one of another that holds nothing here."""
    space = tmp_path / "space"
    space.touch()
    for pid, exe, uid, sockets in (
        (10, "/usr/sbin/nginx", 33, (500, 501, 502, 504, 505)),
        (11, "/opt/other", 1000, (500, 503, 506)),
        (12, "/bin/stranger", 0, ()),
    ):
        folder = tmp_path / "proc" / str(pid)
        for name in ("ns", "net", "fd"):
            (folder / name).mkdir(parents=True)
        (folder / "exe").symlink_to(exe)
        (folder / "status").write_text(f"Name:\tx\nUid:\t9\t{uid}\t9\t9\n")
        if pid == 12:
            (folder / "ns" / "net").touch()
        else:
            (folder / "ns" / "net").hardlink_to(space)
        for name, lines in TABLES.items():
            text = "".join(f"   0: {_row(line)}\n" for line in lines)
            (folder / "net" / name).write_text(HEAD + text)
        for number, inode in enumerate(sockets):
            (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
        (folder / "fd" / "99").symlink_to("/dev/null")
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n")
    return tmp_path


def _row(line: str) -> str:
    local, remote, state, inode = line.split()
    return f"{local} {remote} {state} 00000000:00000000 00:00000000 00000000  0  0 {inode} 1 0"


@pytest.fixture
def processes(proc: Path) -> Processes:
    made = Processes(proc / "proc", proc / "passwd", read=lambda pid: shown(pid, proc / "proc"))
    made.begin(10 * SECOND)
    return made


@pytest.mark.parametrize(
    ("protocol", "ends", "expected"),
    [
        pytest.param("tcp", (WEB, 80, PEER, 40_000), NGINX, id="accepted"),
        pytest.param("tcp", (WEB, 81, PEER, 40_001), NGINX, id="IPv4 on a socket of IPv6"),
        pytest.param("tcp", ("2001:db8::2", 82, "2001:db8::3", 40_002), OTHER, id="IPv6"),
        pytest.param("tcp", (WEB, 80, PEER, 40_001), None, id="over: nobody's"),
        pytest.param("tcp", (WEB, 80, PEER, 1), None, id="never seen"),
        pytest.param("udp", (WEB, 53, PEER, 1), NGINX, id="a bound port of UDP"),
        pytest.param("udp", (WEB, 546, PEER, 1), None, id="two hold it: no guess"),
    ],
)
def test_a_connection_belongs_to_the_process_that_holds_its_socket(
    processes: Processes,
    protocol: str,
    ends: tuple[str, int, str, int],
    expected: Process | None,
) -> None:
    """By the first process of the namespace that has it open, wherever one asks from."""
    assert processes.of_connection(11, protocol, ends) == expected


def test_a_listener_that_several_hold_is_that_of_the_first(processes: Processes) -> None:
    """A server that forks: all of them have the one socket, the parent opened it."""
    assert processes.of_port(10, "tcp", 80) == NGINX


def test_what_went_meanwhile_is_nobodys(processes: Processes) -> None:
    assert processes.of_port(404, "tcp", 80) is None


def test_a_round_reads_the_tables_once_and_the_next_one_anew(proc: Path) -> None:
    made = Processes(proc / "proc", proc / "passwd", read=lambda pid: shown(pid, proc / "proc"))
    made.begin(10 * SECOND)
    assert made.of_port(10, "tcp", 80) == NGINX
    (proc / "proc" / "10" / "net" / "tcp").write_text(HEAD)
    assert made.of_port(10, "tcp", 80) == NGINX
    made.begin(11 * SECOND)
    assert made.of_port(10, "tcp", 80) is None

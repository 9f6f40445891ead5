"""The kernel's own word on the sockets of a namespace is what its tables in /proc say."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from netwatch.agent.tables import held, packed, shown, waiting
from netwatch.enforce.sockdiag import EVERY, Socket, sockets
from netwatch.kernel.commands import check, run
from netwatch.kernel.namespaces import inside, path_of_name, path_of_pid

pytestmark = pytest.mark.netns

STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
SPACE = "nwt-tables"


@pytest.fixture(scope="module")
def pid() -> Iterator[int]:
    """A process in a namespace of its own: listeners and callers of both families, one over."""
    run(["ip", "netns", "del", SPACE])
    check(["ip", "netns", "add", SPACE])
    check(["ip", "-n", SPACE, "link", "set", "lo", "up"])
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        inside(path_of_name(SPACE), lambda: _play(tell))
        os._exit(0)
    assert os.read(ready, 1) == b"y"
    yield _other(child)
    os.kill(child, 9)
    os.waitpid(child, 0)
    check(["ip", "netns", "del", SPACE])


def _other(child: int) -> int:
    """The thread of it that is in the namespace."""
    own = os.stat("/proc/self/ns/net").st_ino
    tasks = [int(task) for task in os.listdir(f"/proc/{child}/task")]
    return next(task for task in tasks if os.stat(f"/proc/{task}/ns/net").st_ino != own)


def _play(tell: int) -> None:
    with ExitStack() as stack:

        def opened(family: int, kind: int) -> socket.socket:
            return stack.enter_context(socket.socket(family, kind))

        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server, client = opened(family, STREAM), opened(family, STREAM)
            server.bind((host, 80))
            server.listen()
            client.connect((host, 80))
            stack.enter_context(server.accept()[0])
            opened(family, DATAGRAM).bind((host, 53))
            opened(family, DATAGRAM).connect((host, 53))
        both = opened(socket.AF_INET6, STREAM)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", 81))
        both.listen()
        mixed, over = opened(socket.AF_INET, STREAM), opened(socket.AF_INET, STREAM)
        for caller in (mixed, over):
            caller.connect(("127.0.0.1", 81))
        stack.enter_context(both.accept()[0])
        over.close()
        both.accept()[0].close()
        os.write(tell, b"y")
        os.read(os.pipe()[0], 1)  # until it is killed


def alive(found: list[Socket]) -> set[Socket]:
    """Without what is over, which is nobody's."""
    assert len(set(found)) == len(found)
    return {each for each in found if each.inode}


def test_both_ways_tell_the_same_sockets(pid: int) -> None:
    """Thirteen of them: listeners, both ends of calls, IPv4 on a socket of IPv6, datagrams."""
    told = alive(held(pid))
    assert told == alive(shown(pid))
    assert len(told) == 13
    local = packed("127.0.0.1")
    mixed = {(s.local, s.remote) for s in told if s.port == 81 and not s.waits}
    assert mixed == {(local, local)}


def test_only_who_waits_is_told_as_waiting(pid: int) -> None:
    assert {(s.protocol, s.port) for s in waiting(pid)} == {("tcp", 80), ("tcp", 81), ("udp", 53)}
    assert set(waiting(pid)) == {each for each in shown(pid) if each.waits}


def test_many_sockets_of_one_family_hide_none_of_the_other(pid: int) -> None:
    """What is bounded is bounded for each: else a thousand of IPv4 would be all that is seen."""
    told = inside(path_of_pid(pid), lambda: [s for s, _ in sockets("udp", EVERY, most=1)])
    assert sorted(len(each.local) for each in told) == [4, 16]


def test_whoever_may_not_enter_reads_the_tables(pid: int) -> None:
    """A user without rights sees the same sockets of his own namespace, by /proc."""
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        os.setuid(65_534)
        os.write(tell, repr(len(waiting(os.getpid()))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    with socket.create_server(("127.0.0.1", 0)):
        expected = len([each for each in shown(os.getpid()) if each.waits])
    assert int(os.read(ready, 100)) == expected - 1


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert held(2**22 + 1) == waiting(2**22 + 1) == shown(1, tmp_path) == []

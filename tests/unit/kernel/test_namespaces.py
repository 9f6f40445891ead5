"""Work in another namespace is done in a thread of its own; failures come back to the caller.

What needs root, entering a real one, is in tests/netns.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from netwatch.kernel import namespaces
from netwatch.kernel.namespaces import NamespaceMissing, inside


def test_no_namespace_means_the_callers_own_thread() -> None:
    assert inside(None, threading.get_ident) == threading.get_ident()


def test_a_namespace_that_is_not_there_is_named_and_nothing_is_done(tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(NamespaceMissing, match="there is no network namespace at .*gone"):
        inside(tmp_path / "gone", lambda: done.append(1))
    assert done == []


def test_what_is_no_namespace_is_not_entered(tmp_path: Path) -> None:
    """A plain file: setns(2) refuses it, whoever asks."""
    (tmp_path / "file").touch()
    done: list[int] = []
    with pytest.raises(NamespaceMissing, match="can not enter"):
        inside(tmp_path / "file", lambda: done.append(1))
    assert done == []


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = sorted(p.name for p in Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(NamespaceMissing):
            inside(tmp_path / "file", lambda: None)
    assert sorted(p.name for p in Path("/proc/self/fd").iterdir()) == before


def test_a_failure_of_the_work_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        inside(None, lambda: 1 // 0)


def test_a_socket_of_ones_own_namespace() -> None:
    with namespaces.socket_inside(None, socket.AF_INET, socket.SOCK_DGRAM) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_DGRAM)


def test_where_namespaces_are_found() -> None:
    """As `ip netns` and proc(5) keep them."""
    assert namespaces.path_of_name("nwh-a") == Path("/run/netns/nwh-a")
    assert namespaces.path_of_pid(7) == Path("/proc/7/ns/net")

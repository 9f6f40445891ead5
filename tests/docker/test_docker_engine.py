"""The connection to an engine that is not there: nothing is left open, whatever went wrong."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path

import pytest

from netwatch.discover.engine import FAILURES, connect, reason_of


@pytest.mark.docker
def test_a_refused_connection_leaves_no_descriptor(tmp_path: Path) -> None:
    """The SDK left its socket to the garbage collector each time that dockerd was away."""
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(FAILURES) as failed:
                connect(path)
            assert reason_of(failed.value) == "nobody listens; is dockerd running?"
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()

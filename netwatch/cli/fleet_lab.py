"""`up` over a lab: an agent in each of its hosts, as processes that report over HTTPS.

The controller stays in the caller's namespace, where a browser finds it; only the socket that the
agents report to is opened on the lab's underlay.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from netwatch.cli.station import Doors, Station
from netwatch.kernel import commands
from netwatch.kernel.namespaces import path_of_name
from netwatch.lab import state
from netwatch.lab.plan import UNDERLAY_NETNS
from netwatch.settings import Settings

PORT = 8742
END_S = 5.0


def lab_doors() -> Doors | None:
    """Where agents of the running lab report; None without a lab, or inside one of its hosts."""
    if not state.present():
        return None
    own = os.stat("/proc/self/ns/net").st_ino
    entries = state.read_directory()
    if any(_inode(path_of_name(entry.netns)) == own for entry in entries.values()):
        return None
    return Doors(f"192.0.2.254:{PORT}", path_of_name(UNDERLAY_NETNS))


@contextlib.contextmanager
def agents_in_lab(station: Station, settings: Settings) -> Iterator[None]:
    """One agent process in every lab host, until the block ends."""
    entries = state.read_directory()
    hosts = sorted(name for name, entry in entries.items() if entry.host == name)
    children = []
    try:
        for host in hosts:
            environment = {
                **os.environ,
                commands.WITH_PARENT: "1",
                "NETWATCH_CONTROLLER": station.agents_url,
                "NETWATCH_CONTROLLER_PIN": station.pin,
                "NETWATCH_AGENT_TOKEN": station.controller.enrol(host),
                "NETWATCH_HOST": host,
                "NETWATCH_STATE": str(Path(settings.state) / "agents" / host),
                "NETWATCH_INTERVAL": str(settings.interval),
                "NETWATCH_CAPTURE": settings.capture,
                "NETWATCH_ENFORCE": str(settings.enforce),
                "NETWATCH_CANARY": str(settings.canary),
            }
            arguments = [sys.executable, "-m", "netwatch", "lab", "exec", host, "--"]
            agent = [sys.executable, "-m", "netwatch", "agent"]
            children.append(commands.start([*arguments, *agent], environment=environment))
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            commands.wait(child, deadline_s=END_S)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0

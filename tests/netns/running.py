"""A running `netwatch up`, asked through its API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Up:
    """Started with a state folder of its own on any free port; `close` ends it and looks."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "netwatch", "up", "--json", "--listen", "127.0.0.1:0"]
        self.state = folder
        self._stderr = folder.with_suffix(".stderr")
        with self._stderr.open("w") as complaints:
            self.process = subprocess.Popen(
                [*command, "--state", str(folder), *arguments],
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                env=os.environ | environment,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.complaints()
        first = json.loads(line)
        self.url, self.token = first["url"], first["token"]

    def complaints(self) -> str:
        """What it said on stderr so far."""
        return self._stderr.read_text()

    def get(self, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def wait(self, fact: Callable[[], bool], what: str, *, deadline_s: float = 30.0) -> None:
        deadline = time.monotonic() + deadline_s
        while not fact():
            assert time.monotonic() < deadline, what
            time.sleep(0.2)

    def ready(self) -> None:
        """Every host has an agent that reports."""
        self.wait(
            self._heard,
            "no agent reports",
        )

    def _heard(self) -> bool:
        hosts = self.get("hosts")["hosts"]
        return bool(hosts) and all(host["last_report"] for host in hosts)

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0, self.complaints()
        assert self.process.stdout is not None
        self.process.stdout.close()

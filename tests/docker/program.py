"""The program itself, run for the private dockerd as its operator would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from private_dockerd import Engine, eventually


class Netwatch:
    """The program, for this dockerd, with a state folder of its own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "NETWATCH_DOCKER_SOCKET": engine.socket,
            "NETWATCH_STATE": str(folder / "state"),
            "NETWATCH_HOST": "alpha",
            "NETWATCH_LISTEN": "127.0.0.1:0",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def call(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit code and JSON of a verb."""
        done = subprocess.run(
            [sys.executable, "-m", "netwatch", *arguments, "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout, f"netwatch {arguments} said nothing: {done.stderr}"
        return done.returncode, json.loads(done.stdout)

    def ok(self, *arguments: str) -> dict[str, Any]:
        """The JSON of a verb that must succeed."""
        code, answer = self.call(*arguments)
        assert code == 0, answer
        return answer

    def up(self) -> None:
        """Start `netwatch up` and wait until it has reported: by then it is attached."""
        with (self.folder / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "netwatch", "up"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually((self.folder / "state/url").exists, within=20, what="netwatch up is up")
        eventually(lambda: self.ok("workloads")["workloads"], within=20, what="the first report")

    def edges(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """By names of client and server, and port."""
        found = self.ok("edges")["edges"]
        return {(e["source"]["name"], e["destination"]["name"], e["port"]): e for e in found}

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

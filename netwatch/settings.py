"""Every setting once: name, default and meaning. Flag, then NETWATCH_*, then /etc/netwatch/*.yaml.

An unknown key or a wrong value ends the program with the file, the key and what would be right; a
setting that is silently ignored would be found out at the worst moment.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from netwatch.model.errors import InvalidDocument

FOLDER = Path("/etc/netwatch")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set; README lists each under this name."""

    host: str = ""
    """The name of this host in every identity; default: the host name."""
    state: str = "/var/lib/netwatch"
    """Where state, history, spool, token and certificates are kept."""
    listen: str = "127.0.0.1:8741"
    """Address and port of the web page and API; port 0 takes any free one."""
    interval: float = 1.0
    """Seconds between two reports of an agent."""
    controller: str = ""
    """URL of the controller that an agent reports to."""
    controller_pin: str = ""
    """SHA-256 of the controller's certificate, in hex, that an agent accepts."""
    agent_token: str = ""
    """The agent's token, bound to its host name by the controller."""
    docker_socket: str = "/var/run/docker.sock"
    """The Engine API's socket; Docker is not watched where it does not exist."""
    podman_socket: str = "/run/podman/podman.sock"
    """Podman's (rootful) Docker-compatible socket; not watched where it does not exist."""
    uplinks: str = ""
    """Interfaces towards other hosts, separated by commas; default: those of default routes."""
    external: str = ""
    """Names for networks outside: payments=203.0.113.0/24, office=2001:db8::/32, ..."""
    webhook_url: str = ""
    """A receiver of alerts."""
    webhook_secret: str = ""
    """Its signing secret, `whsec_` and base64, by the Standard Webhooks specification."""
    webhook_allow_private: bool = False
    """Whether that receiver may be a private or loopback address."""
    retention_hours: float = 48.0
    """How long single flows are kept; roll-ups of 5 minutes and of an hour are kept longer."""
    history_bytes: int = 20 * 1024 * 1024 * 1024
    """Room for the flow history; beyond it the oldest single flows go first, and are counted."""
    capture: str = "auto"
    """auto, tcx, clsact or conntrack: how packets are seen."""
    capture_entries: int = 131_072
    """Connections that the kernel counts at once, 320 bytes each; what gives way is counted."""
    judge_rate: int = 300
    """New connections a second, in the long run, that are judged by their first bytes."""
    enforce: bool = False
    """Whether an agent gives the controller's policies force; else it only observes."""
    drain: bool = False
    """Whether an agent leaves live sessions that a new version forbids; else it cuts them."""
    canary: float = 60.0
    """Seconds between two rounds of canaries, which prove that the kernel enforces; 0: none."""
    name_grace: float = 60.0
    """Seconds that an address stays open beyond the time to live of its DNS name."""
    writer: str = "restore"
    """restore or python-iptables (legacy tables only): what writes rules."""
    spool_bytes: int = 256 * 1024 * 1024
    """Room on disk for reports that the controller did not take yet."""


NAMES = tuple(field.name for field in dataclasses.fields(Settings))
_TYPES: dict[str, type] = {f.name: type(f.default) for f in dataclasses.fields(Settings)}


def load(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path = FOLDER,
) -> Settings:
    """The settings in force; raises InvalidDocument for an unknown key or a wrong value."""
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for file in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
        values.update(_from_file(file))
    for name in NAMES:
        text = environment.get(f"NETWATCH_{name.upper()}")
        if text is not None:
            values[name] = _convert(name, text, f"NETWATCH_{name.upper()}", None)
    values.update({k: v for k, v in (flags or {}).items() if v is not None})
    values["host"] = values.get("host") or socket.gethostname()
    return Settings(**values)


def _from_file(file: Path) -> dict[str, Any]:
    try:
        document = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDocument(
            f"the settings can not be read: {error.strerror}", "run as root", file=str(file)
        ) from None
    except UnicodeDecodeError:
        raise InvalidDocument(
            "the settings are not UTF-8 text", "save them as UTF-8", file=str(file)
        ) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise InvalidDocument(
            "this is not YAML", "settings are `name: value` lines", file=str(file), line=line
        ) from None
    if document is None:
        return {}
    if not isinstance(document, CommentedMap):
        raise InvalidDocument(
            "this is no mapping", "settings are `name: value` lines", file=str(file), line=1
        )
    values = {}
    for key, value in document.items():
        line = _line_of(document, key)
        if key not in NAMES:
            near = difflib.get_close_matches(str(key), NAMES, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}"
            raise InvalidDocument(f"unknown setting {key!r}", hint, file=str(file), line=line)
        values[key] = _convert(key, value, str(file), line)
    return values


def _line_of(document: CommentedMap, key: object) -> int:
    line: int = document.lc.key(key)[0]
    return line + 1


def _convert(name: str, value: object, source: str, line: int | None) -> object:
    wanted = _TYPES[name]
    text = str(value)
    try:
        if wanted is bool:
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        return wanted(text)
    except (KeyError, ValueError):
        example = {bool: "true or false", int: "a whole number", float: "a number"}[wanted]
        raise InvalidDocument(
            f"{name} is {text!r}", f"it must be {example}", file=source, line=line
        ) from None

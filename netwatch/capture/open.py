"""Chooses how to see: tcx, else clsact, else conntrack, and says why it had to step down."""

from __future__ import annotations

from pathlib import Path

from netwatch.capture.conntrack import ConntrackSensor
from netwatch.capture.ebpf import EbpfSensor
from netwatch.capture.libbpf import BpfFailed
from netwatch.capture.sensor import Sensor
from netwatch.model.errors import NetwatchError, UsageError

METHODS = ("tcx", "clsact", "conntrack")


class CaptureUnavailable(NetwatchError):
    """Packets can not be seen in the way that was asked for."""

    code = "capture-unavailable"


def open_sensor(*, method: str = "auto", namespace: Path | None = None) -> Sensor:
    """A sensor for a network namespace (None: the caller's).

    `auto` takes the first of tcx, clsact and conntrack that works; `state().problem` then says
    why not the better ones. Raises CaptureUnavailable if the method asked for, or none, works,
    UsageError if there is no such method.
    """
    if method not in ("auto", *METHODS):
        raise UsageError(f"there is no way of capture {method!r}", f"auto, {', '.join(METHODS)}")
    problems: list[str] = []
    hint = None
    for candidate in METHODS if method == "auto" else (method,):
        problem = "; ".join(problems) or None
        try:
            if candidate == "conntrack":
                return ConntrackSensor(namespace=namespace, problem=problem)
            return EbpfSensor(candidate, namespace=namespace, problem=problem)
        except BpfFailed as failure:
            problems.append(f"no {candidate}: {failure.message}")
            hint = hint or failure.hint
        except OSError as error:
            problems.append(f"no conntrack: {error.strerror}")
    raise CaptureUnavailable(
        "; ".join(problems), hint or "`netwatch doctor` says what this host lacks"
    )

"""Chooses how to see: tcx, else clsact, else conntrack, and says why it had to step down."""

from __future__ import annotations

from pathlib import Path

from netwatch.capture.conntrack import ConntrackSensor
from netwatch.capture.ebpf import ENTRIES, RATE, EbpfSensor
from netwatch.capture.libbpf import BpfFailed
from netwatch.capture.sensor import Sensor
from netwatch.model.errors import NetwatchError, UsageError

MOST = 10_000_000  # connections, 3.2 GB of kernel memory; and far more than a host opens a second
METHODS = ("tcx", "clsact", "conntrack")


class CaptureUnavailable(NetwatchError):
    """Packets can not be seen in the way that was asked for."""

    code = "capture-unavailable"


def open_sensor(
    *,
    method: str = "auto",
    namespace: Path | None = None,
    entries: int = ENTRIES,
    rate: int = RATE,
) -> Sensor:
    """A sensor for a network namespace (None: the caller's) that counts `entries` connections at
    once and looks at the first bytes of `rate` new ones a second.

    `auto` takes the first of tcx, clsact and conntrack that works; `state().problem` then says
    why not the better ones. Raises CaptureUnavailable if the method asked for, or none, works,
    UsageError if there is no such method, or a number is none that the kernel can hold.
    """
    if method not in ("auto", *METHODS):
        raise UsageError(f"there is no way of capture {method!r}", f"auto, {', '.join(METHODS)}")
    for name, number, least in (("capture_entries", entries, 1), ("judge_rate", rate, 0)):
        if not least <= number <= MOST:
            raise UsageError(f"{name} is {number}", f"it must be from {least} to {MOST:,}")
    reasons: dict[str, list[str]] = {}
    hint = None
    for candidate in METHODS if method == "auto" else (method,):
        problem = _sentence(reasons)
        try:
            if candidate == "conntrack":
                return ConntrackSensor(namespace=namespace, problem=problem)
            return EbpfSensor(
                candidate, namespace=namespace, entries=entries, rate=rate, problem=problem
            )
        except BpfFailed as failure:
            reasons.setdefault(failure.message, []).append(candidate)
            hint = hint or failure.hint
        except OSError as error:
            reasons.setdefault(str(error.strerror), []).append(candidate)
    raise CaptureUnavailable(
        _sentence(reasons) or "", hint or "`netwatch doctor` says what this host lacks"
    )


def _sentence(reasons: dict[str, list[str]]) -> str | None:
    parts = (f"no {' and no '.join(names)}: {why}" for why, names in reasons.items())
    return "; ".join(parts) or None

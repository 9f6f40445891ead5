"""Carries out probes: real connections out of the workloads' own network namespaces.

Nothing is needed inside a container, and no process is started there: a socket that was opened in
its namespace works from any thread. Each is bounded in time, and all of them in number at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from netwatch.enforce import probed
from netwatch.enforce.probe import AGREE, Answer, Question, judged
from netwatch.kernel import connect
from netwatch.kernel.namespaces import path_of_pid
from netwatch.model.errors import NetwatchError

AT_ONCE = 32  # sockets; a port scan of this width is no load for a host
TIMEOUT_S = 1.0  # within one host a refusal takes less than a millisecond


def tried(
    questions: Iterable[Question], *, timeout_s: float = TIMEOUT_S, at_once: int = AT_ONCE
) -> Iterator[tuple[Question, Answer]]:
    """Try every question, in their order; call it in the host's namespace.

    What ended in silence and does not prove the documents right is tried a second time: a lost
    packet is no disagreement. A source that went meanwhile answers `untried`.
    """
    record = probed.place()
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(partial(_tried, timeout_s=timeout_s, record=record), questions)


def _tried(question: Question, *, timeout_s: float, record: Path) -> tuple[Question, Answer]:
    answer = _once(question, timeout_s, record)
    if answer.result == "filtered" and not answer.told and judged(question, answer).kind != AGREE:
        answer = _once(question, timeout_s, record)
    return question, answer


def _once(question: Question, timeout_s: float, record: Path) -> Answer:
    workload = question.source.workload
    source = question.source.address if workload else None
    namespace = path_of_pid(workload.pid) if workload and workload.pid else None
    try:
        outcome = connect.connect(
            namespace,
            *question.aim,
            protocol=question.protocol,
            timeout_s=timeout_s,
            prepare=lambda opened: probed.mark(
                opened, source, question.aim, record, now=time.time_ns()
            ),
        )
    except (NetwatchError, OSError):
        return Answer("untried", 0.0, told=False)
    return Answer(outcome.result, outcome.ms, outcome.told)

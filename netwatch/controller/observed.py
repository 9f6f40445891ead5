"""When each host was observed, so that a time without reports is never taken for one without talk.

A span is what the reports of one boot of an agent cover without a break. It is written at most
every SAVED, within the transaction of a report; history.py lends its cursor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import duckdb

from netwatch.graph.coverage import Span
from netwatch.model.report import Report
from netwatch.model.times import SECOND

SAVED = 10 * SECOND
SLACK = (
    2 * SAVED
)  # a killed controller forgot up to SAVED, which is no break of an agent's reports
SPANS_LIMIT = 100_000  # of an answer: an agent that is started every second makes that many a day

SCHEMA = """
create table if not exists observed (
    host varchar not null, boot varchar not null, since bigint not null, until bigint not null);
"""

_SPANS = f"""
select host, since, until from observed where until >= $1 and since < $2
union all
select host, max(since), max(until) from observed where until < $1 group by host
order by all limit {SPANS_LIMIT}"""


@dataclass(frozen=True, slots=True)
class _Last:
    """The last span of a host, as it is and as it was written."""

    boot: str
    since: int
    until: int
    written: int


class Observed:
    """The spans of all hosts; the last ones are known better than they are written."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        rows = cursor.execute(
            "select host, arg_max(boot, since), max(since), arg_max(until, since) "
            "from observed group by host"
        ).fetchall()
        self._last = {host: _Last(boot, since, until, until) for host, boot, since, until in rows}

    def note(self, cursor: duckdb.DuckDBPyConnection, report: Report, latest: int) -> None:
        """A report that counts, no part of it later than `latest`."""
        if report.capture.method == "none":
            return
        ended = min(report.ended, latest)
        last = self._last.get(report.host)
        goes_on = last is not None and (
            last.boot == report.boot and report.started <= last.until + SLACK
        )
        if last is None or not goes_on:
            started = min(report.started, ended)
            last = _Last(report.boot, started, ended, ended)
            row = [report.host, report.boot, started, ended]
            cursor.execute("insert into observed values (?, ?, ?, ?)", row)
        elif ended - last.written >= SAVED:
            row = [ended, report.host, report.boot, last.since]
            cursor.execute(
                "update observed set until = ? where host = ? and boot = ? and since = ?", row
            )
            last = replace(last, until=ended, written=ended)
        else:
            last = replace(last, until=max(last.until, ended))
        self._last[report.host] = last

    def save(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Write what is known better than it is written."""
        for host, last in self._last.items():
            if last.until > last.written:
                row = [last.until, host, last.boot, last.since]
                cursor.execute(
                    "update observed set until = ? where host = ? and boot = ? and since = ?", row
                )

    def spans(self, cursor: duckdb.DuckDBPyConnection, since: int, until: int) -> list[Span]:
        """Those that touch [since, until), and of each host one that ended before, if there is."""
        found = cursor.execute(_SPANS, [since, until]).fetchall()
        spans = []
        for host, start, end in found:
            last = self._last.get(host)
            if last is not None and last.since == start:
                end = max(end, last.until)
            spans.append(Span(host, start, end))
        return spans

"""Flow history in DuckDB; observed.py and upkeep.py speak SQL to it by the cursor it lends them.

Three tables hold every delta exactly once for an edge query: rows of `flows` whose batch is newer
than the watermark, then `five_minutes`, then `hours`. Rolled rows of `flows` stay for searches and
for the ragged ends of a period until retention ends. The ledger of reports is in the same file
because only then are "counted" and "known" one transaction, and a retry counts nothing twice.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from netwatch.controller import (
    arrived,
    columns,
    exporting,
    observed,
    search,
    statements,
    upkeep,
)
from netwatch.controller.columns import Half, Named
from netwatch.controller.health import Wrote
from netwatch.controller.ledger import Ledger
from netwatch.controller.observed import Observed
from netwatch.controller.records import FlowQuery
from netwatch.controller.statements import FIVE_MINUTES, HOUR
from netwatch.controller.upkeep import first
from netwatch.graph.coverage import Span
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.report import Report

MEMORY = "512MB"
# Of the log, before it is moved into the file: each move packs the last 122,880 rows afresh, which
# DuckDB's own 16 MB, some 30,000 rows, would do four times as often as there are such rows.
LOG = "64MB"
SHRINK_ABOVE, SHRINK_TO = 0.9, 0.75  # shares of the limit: room for what comes until the next look
SHRINK_ROUNDS = 8
ROWS_LIMIT = 1_000
NEWEST_FIRST = (FIVE_MINUTES, HOUR)  # of flows asked for, before all of history is looked through
ALIKE_LIMIT = 2_000_000  # two for each call that a replay can hold


class History:
    """One DuckDB file; writers take turns, readers never wait for them."""

    def __init__(self, path: Path, *, wrote: Wrote = lambda _: None) -> None:
        """`wrote` hears how each write went. Raises NetwatchError if it can not be opened."""
        self._wrote = wrote
        try:
            self._connection = duckdb.connect(
                str(path),
                config={
                    "memory_limit": MEMORY,
                    "preserve_insertion_order": "false",
                    "checkpoint_threshold": LOG,
                    "pandas_analyze_sample": "0",  # columns of objects are text, no need to look
                },
            )
        except duckdb.Error as error:
            raise NetwatchError(
                f"the flow history {path} can not be opened: {str(error).splitlines()[0][:200]}",
                "is another netwatch using this folder?",
                code="state-in-use",
            ) from None
        self._connection.execute(statements.SCHEMA + observed.SCHEMA)
        self._connection.execute(statements.ADDED)
        self._lock = threading.Lock()
        with self._read() as cursor:
            self._rolled = first(cursor, "select value from marks where name = 'rolled'") or 0
            newest = first(cursor, "select max(batch) from reports") or 0
            self._batch = max(newest, self._rolled)
            self._observed = Observed(cursor)
            self._known = Ledger(
                cursor.execute("select host, boot, sequence from reports").fetchall()
            )

    def close(self) -> None:
        """Checkpoints and closes the file."""
        with self._lock:
            with contextlib.suppress(NetwatchError), self._write() as cursor:
                self._observed.save(cursor)
            self._connection.close()

    @contextmanager
    def _read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    @contextmanager
    def _write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction; the caller holds the lock."""
        with self._read() as cursor:
            cursor.begin()
            try:
                yield cursor
                cursor.commit()
                self._wrote(None)
            except BaseException as error:
                with contextlib.suppress(duckdb.Error):
                    cursor.rollback()
                if isinstance(error, duckdb.Error):
                    failure = _failed(error)
                    self._wrote(failure)
                    raise failure from None
                raise

    # reports

    def knows(self, report: Report) -> bool:
        """Whether this report was counted before."""
        with self._lock:
            return self._known.has(report.host, report.boot, report.sequence)

    def append(
        self,
        report: Report,
        flows: Sequence[Named],
        now: int,
        *,
        losses: Sequence[tuple[str, int]] = (),
    ) -> bool:
        """Counts the report in one durable transaction; False if it was counted before.

        `losses` are what the controller finds to be missing, beside what the report says itself.
        Raises OverflowError or ValueError, with nothing counted, for numbers no counter has.
        """
        rows = arrived.from_flows(flows, latest=now + FIVE_MINUTES)
        with self._lock:
            if self._known.has(report.host, report.boot, report.sequence):
                return False
            batch = self._batch + 1
            with self._write() as cursor:
                if flows:
                    cursor.register("arrived", rows)
                    insert = statements.INSERT.format(names=", ".join(rows))
                    cursor.execute(insert, {"host": report.host, "batch": batch})
                    cursor.unregister("arrived")
                cursor.execute(
                    "insert into reports values (?, ?, ?, ?, ?)",
                    [report.host, report.boot, report.sequence, batch, now],
                )
                for reason, count in (*report.losses, *losses):
                    cursor.execute(statements.LOST, [report.host, reason, count])
                self._observed.note(cursor, report, now + FIVE_MINUTES)
            self._batch = batch
            self._known.add(report.host, report.boot, report.sequence)
        return True

    def lose(self, host: str, reason: str, count: int) -> None:
        """Counts what was lost without a report that says so."""
        with self._lock, self._write() as cursor:
            cursor.execute(statements.LOST, [host, reason, count])

    def losses(self) -> dict[str, dict[str, int]]:
        """Totals by host and reason; the host is empty where a loss is no single host's."""
        found: dict[str, dict[str, int]] = {}
        with self._read() as cursor:
            query = "select host, reason, count from losses order by all"
            for host, reason, count in cursor.execute(query).fetchall():
                found.setdefault(host, {})[reason] = int(count)
        return found

    def spans(self, since: int, until: int) -> list[Span]:
        """When hosts were observed; see Observed.spans."""
        with self._read() as cursor:
            return self._observed.spans(cursor, since, until)

    def rename(self, names: dict[str, str], *, since: int) -> None:
        """Rows since then that call a peer by an old id get the new one: it became known later."""
        if not names:
            return
        with self._lock, self._write() as cursor:
            for table, time in (("flows", "seen"), ("five_minutes", "last_seen")):
                for column in ("source", "destination"):
                    cursor.executemany(
                        f"update {table} set {column} = $2 where {column} = $1 and {time} >= $3",
                        [(old, new, since) for old, new in names.items()],
                    )

    # edges

    def edges(self, since: int | None, until: int | None) -> list[Half]:
        """The two sides of every edge with a flow last seen in [since, until).

        Exact within the retention of single flows; before it, whole buckets are taken that the
        period touches.
        """
        with self._read() as cursor:
            cursor.begin()  # one view of all three tables: a roll-up meanwhile moves nothing
            marks = dict(cursor.execute("select name, value from marks").fetchall())
            pieces = statements.pieces(
                since,
                until,
                rolled=marks.get("rolled", 0),
                exact_from=max(marks.get("purged", 0), marks.get("folded", 0)),
            )
            rows = " union all ".join(
                f"select {statements.COLUMNS} from ({piece})" for piece in pieces
            )
            found = cursor.execute(statements.MERGE.format(bucket="0", rows=rows)).fetchall()
            cursor.commit()
        return [columns.half(row) for row in found]

    # flows

    def flows(self, query: FlowQuery) -> tuple[list[Flow], str | None]:
        """Conversations, newest first: the deltas of a connection are one flow."""
        limit = max(1, min(query.limit, ROWS_LIMIT))
        with self._read() as cursor:
            where, values, having, more = _asked(cursor, query)
            newest = first(cursor, f"select max(seen) from flows where {where}", values) or 0
            if query.cursor is not None:
                newest = min(newest, int(query.cursor.partition("-")[0]))
            for window in (*NEWEST_FIRST, 2**62):
                # Who spoke last in the window has a delta there; of those all deltas are judged.
                recent = f"{where} and seen >= {max(0, newest - window)}"
                hits = f"""
                    select connection, max(seen) as newest from flows where {where}
                        and connection in (select connection from flows where {recent})
                    group by connection having {having}
                    order by newest desc, connection desc limit {limit + 1}"""
                found = cursor.execute(hits, [*values, *values, *more]).fetchall()
                if len(found) > limit:
                    break
            page = found[:limit]
            if not page:
                return [], None
            ids = ", ".join(str(int(row[0])) for row in page)
            select = columns.CONVERSATIONS.format(where=f"{where} and connection in ({ids})")
            rows = {row[0]: row for row in cursor.execute(select, values).fetchall()}
        flows = [columns.flow_of(rows[connection]) for connection, _ in page]
        last = page[-1]
        return flows, f"{last[1]}-{last[0]}" if len(found) > limit else None

    def export(self, query: FlowQuery, path: Path, format: str) -> None:
        """Writes every conversation that fits, in no order, as one of exporting.FORMATS.

        `path` is of our own making; `limit` and `cursor` of the query say nothing here.
        """
        with self._read() as cursor:
            where, values, having, more = _asked(cursor, replace(query, cursor=None))
            select = (
                f"select {exporting.columns(format)} from flows "
                f"where {where} group by connection having {having}"
            )
            file = str(path).replace("'", "''")
            copy = f"copy ({select}) to '{file}' ({exporting.FORMATS[format]})"
            try:
                cursor.execute(copy, [*values, *more])
            except duckdb.Error as error:
                raise _failed(error) from None

    def alike(self, since: int | None, until: int | None) -> tuple[list[Flow], int]:
        """All conversations of [since, until), those put together that a replay judges alike.

        Beyond ALIKE_LIMIT flows the rest is left out; the second value counts its connections.
        """
        start, end = since or 0, 2**62 if until is None else until
        with self._read() as cursor:
            cursor.execute(statements.ALIKE, [start, end])
            rows = cursor.fetchmany(ALIKE_LIMIT)
            left = sum(int(row[13]) for row in iter(cursor.fetchone, None))
        return [columns.alike_of(row) for row in rows], left

    # upkeep

    def roll_up(self, now: int) -> None:
        """Moves what has settled into `five_minutes`, and what is old there into `hours`."""
        with self._lock:
            with self._write() as cursor:
                newest = upkeep.roll_up(cursor, now, rolled=self._rolled)
            self._rolled = newest

    def purge(self, now: int, *, retention_hours: float) -> None:
        """Deletes what is older than it is kept."""
        with self._lock, self._write() as cursor:
            upkeep.purge(cursor, now, rolled=self._rolled, retention_hours=retention_hours)

    def shrink(self, limit: int) -> int:
        """Drops the oldest until the file holds less than `limit` bytes; how many rows went.

        Single flows go before sums of them, by host counted as losses. What was not rolled up yet
        stays. The file itself may keep its size, and fills its free room before it grows.
        """
        dropped, before = 0, 2**62
        with self._lock:
            for _ in range(SHRINK_ROUNDS):
                used = self._used()
                if used <= limit * SHRINK_ABOVE or used >= before:
                    break  # room comes free in groups of 122,880 rows; the next look sees to more
                before = used
                with self._write() as cursor:
                    share = 1 - SHRINK_TO * limit / used
                    went = upkeep.drop_oldest(cursor, share, rolled=self._rolled)
                if not went:
                    break
                dropped += went
        return dropped

    def _used(self) -> int:
        """Bytes of the file in use, its log included, after a checkpoint where one is possible."""
        with self._read() as cursor:
            with contextlib.suppress(duckdb.TransactionException):  # somebody is reading
                cursor.execute("checkpoint")
            return first(cursor, statements.USED) or 0


def _asked(
    cursor: duckdb.DuckDBPyConnection, query: FlowQuery
) -> tuple[str, list[Any], str, list[Any]]:
    """What single deltas, and what whole conversations must fulfil, each with its parameters."""

    def known(column: str) -> list[str]:
        rows = cursor.execute(f"select distinct {column} from flows where {where}", values)
        return [address for (address,) in rows.fetchall() if address is not None]

    where, values = columns.where_of(query)
    having, more = columns.having_of(query)
    terms = search.parse(query.where) if query.where else ()
    texts, given = search.conditions(terms, whole=False, known=known)
    whole, wanted = search.conditions(terms, whole=True, known=known)
    return (
        " and ".join([where, *texts]),
        [*values, *given],
        " and ".join([having, *whole]),
        [*more, *wanted],
    )


def _failed(error: duckdb.Error) -> NetwatchError:
    return NetwatchError(
        f"the flow history can not be written: {str(error).splitlines()[0][:200]}",
        "is there room on the disk of the state folder?",
        code="history-failed",
    )

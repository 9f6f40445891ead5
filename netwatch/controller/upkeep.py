"""What keeps the flow history small: sums of what is old, and the oldest dropped.

Each function is a part of one transaction of history.py, which lends its cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from netwatch.controller import statements
from netwatch.controller.ledger import WINDOW
from netwatch.controller.statements import FIVE_MINUTES, HOUR
from netwatch.model.times import SECOND

SETTLE = 60 * SECOND  # a batch is rolled up this long after it came: handshakes are judged by then
FIVE_MINUTES_KEPT = 7 * 24 * HOUR
HOURS_KEPT = 400 * 24 * HOUR
BOOTS_KEPT = 30 * 24 * HOUR


def first(cursor: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] = ()) -> int | None:
    """The first number of the first row; None if there is none."""
    row = cursor.execute(query, list(values)).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def roll_up(cursor: duckdb.DuckDBPyConnection, now: int, *, rolled: int) -> int:
    """Moves what has settled into `five_minutes`, and what is old there into `hours`.

    `rolled` is the last batch that was moved before; gives the one that is now.
    """
    newest = first(cursor, "select max(batch) from reports where received <= ?", [now - SETTLE])
    if newest is not None and newest > rolled:
        where = f"batch > {rolled} and batch <= {newest}"
        bucket = f"judged.seen - judged.seen % {FIVE_MINUTES}"
        rows = statements.FROM_FLOWS.format(where=where, bucket=bucket)
        cursor.execute(f"insert into five_minutes select {statements.SATURATED} from ({rows})")
        cursor.execute("insert or replace into marks values ('rolled', ?)", [newest])
    else:
        newest = rolled
    old = now - FIVE_MINUTES_KEPT
    old -= old % HOUR
    moved = f"select * from five_minutes where bucket < {old}"
    if first(cursor, f"select count(*) from ({moved})"):
        rows = statements.MERGE.format(bucket=f"bucket - bucket % {HOUR}", rows=moved)
        cursor.execute(f"insert into hours select {statements.SATURATED} from ({rows})")
        cursor.execute(f"delete from five_minutes where bucket < {old}")
        cursor.execute(statements.MARK, ["folded", old])
    return newest


def purge(
    cursor: duckdb.DuckDBPyConnection, now: int, *, rolled: int, retention_hours: float
) -> None:
    """Deletes single flows, hours, spans and ledger rows that are older than they are kept."""
    oldest = now - int(retention_hours * HOUR)
    cursor.execute("delete from flows where seen < ? and batch <= ?", [oldest, rolled])
    cursor.execute(statements.MARK, ["purged", oldest])
    cursor.execute("delete from hours where bucket < ?", [now - HOURS_KEPT])
    cursor.execute("delete from observed where until < ?", [now - HOURS_KEPT])
    cursor.execute(
        "delete from reports using (select host, boot, max(sequence) as last, "
        "max(received) as heard from reports group by host, boot) as newest "
        "where reports.host = newest.host and reports.boot = newest.boot and batch <= ? "
        "and (sequence <= newest.last - ? or newest.heard < ?)",
        [rolled, WINDOW, now - BOOTS_KEPT],
    )


def drop_oldest(cursor: duckdb.DuckDBPyConnection, share: float, *, rolled: int) -> int:
    """Rows of the table that keeps most detail and is not empty; 0 if none is left."""
    for table, time, reason, host in statements.BY_DETAIL:
        settled = f" and batch <= {rolled}" if table == "flows" else ""
        query = f"select quantile_disc({time}, ?) from {table} where true{settled}"
        cut = first(cursor, query, [share])
        if cut is None:
            continue
        where = f"{time} <= {cut}{settled}"
        query = f"select {host}, count(*) from {table} where {where} group by all"
        lost = cursor.execute(query).fetchall()
        cursor.execute(f"delete from {table} where {where}")
        for name, count in lost:
            cursor.execute(statements.LOST, [name, reason, count])
        if table == "flows":
            cursor.execute(statements.MARK, ["purged", cut + 1])
        return sum(count for _, count in lost)
    return 0

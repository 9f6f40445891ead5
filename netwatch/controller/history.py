"""Flow history in DuckDB, and the only module that speaks SQL to it.

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
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from netwatch.controller import columns
from netwatch.controller.columns import Half, Named
from netwatch.controller.records import FlowQuery
from netwatch.model.errors import NetwatchError
from netwatch.model.flow import Flow
from netwatch.model.report import Report
from netwatch.model.times import SECOND

FIVE_MINUTES = 300 * SECOND
HOUR = 3_600 * SECOND
SETTLE = 60 * SECOND  # a batch is rolled up this long after it came: handshakes are judged by then
FIVE_MINUTES_KEPT = 7 * 24 * HOUR
HOURS_KEPT = 400 * 24 * HOUR
WINDOW = 4_096  # sequence numbers remembered per boot; an hour of reports each second
BOOTS_KEPT = 30 * 24 * HOUR
MEMORY = "512MB"
ROWS_LIMIT = 1_000
_END = 2**62 // FIVE_MINUTES * FIVE_MINUTES  # later than any time, and the end of a bucket

_KEY = "source, destination, protocol, port"
_COLUMNS = f"""bucket, side, {_KEY}, original_port, connections, packets, bytes, first_seen,
    last_seen, encryption, proven, seen, kinds, verdict, staged"""

# A sum is wider than a column. Only a lying agent reaches the end of one; it stops there.
_SATURATED = _COLUMNS.replace(
    "connections, packets, bytes,",
    ", ".join(f"least({name}, {2**62})" for name in ("connections", "packets", "bytes")) + ",",
).replace("kinds,", "array_to_string(list_distinct(string_split(kinds, chr(30))), chr(30)),")

_ROLLUP = """(
    bucket bigint not null, side varchar not null, source varchar not null,
    destination varchar not null, protocol varchar not null, port integer not null,
    original_port integer not null, connections bigint not null, packets bigint not null,
    bytes bigint not null, first_seen bigint not null, last_seen bigint not null,
    encryption tinyint not null, proven boolean not null, seen boolean not null,
    kinds varchar not null, verdict varchar, staged varchar)"""

_SCHEMA = f"""
create table if not exists flows (
    batch bigint not null, connection ubigint not null, seen bigint not null,
    first_seen bigint not null, source varchar not null, destination varchar not null,
    protocol varchar not null, port integer not null, host varchar not null,
    reporter varchar not null, client_address varchar not null, client_port integer not null,
    server_address varchar not null, server_port integer not null, original_address varchar,
    original_port integer not null, client_packets bigint not null, server_packets bigint not null,
    client_bytes bigint not null, server_bytes bigint not null, client_payload bigint not null,
    server_payload bigint not null, connections bigint not null, state varchar not null,
    application varchar, direction varchar not null, encryption varchar not null, version varchar,
    details varchar, verdict varchar, staged varchar);
create table if not exists five_minutes {_ROLLUP};
create table if not exists hours {_ROLLUP};
create table if not exists reports (
    host varchar not null, boot varchar not null, sequence bigint not null, batch bigint not null,
    received bigint not null);
create table if not exists losses (
    host varchar not null, reason varchar not null, count hugeint not null,
    primary key (host, reason));
create table if not exists marks (name varchar primary key, value bigint not null);
"""

# One row per key from single deltas. A delta that could not be judged takes the judgement of its
# connection if a later one had it; 2 is "payload, and nobody knows", 0 "no payload at all".
# `kinds` are (state, application, version) triples as text: arrays made it three times as slow.
_FROM_FLOWS = """
with part as (select * from flows where {where}),
known as (
    select connection, max(case encryption when 'plaintext' then 3 else 1 end) as rank
    from flows
    where encryption <> 'unknown'
      and connection in (select connection from part where encryption = 'unknown')
      and seen >= (select min(seen) from part)
      and seen <= (select max(seen) from part) + 120000000000
    group by connection),
judged as (
    select part.*, known.rank as rank,
        state in ('established', 'reset') as answered
    from part left join known using (connection))
select {bucket} as bucket, if(reporter = 'server', 'server', 'client') as side,
    source, destination, protocol, port, max(original_port) as original_port,
    sum(connections) as connections, sum(client_packets + server_packets) as packets,
    sum(client_bytes + server_bytes) as bytes, min(first_seen) as first_seen,
    max(judged.seen) as last_seen,
    max(case when encryption = 'plaintext' then 3 when encryption = 'encrypted' then 1
        when rank is not null then rank
        when client_payload + server_payload > 0 then 2 else 0 end)::tinyint as encryption,
    bool_or(direction = 'seen' and answered) as proven, bool_or(direction = 'seen') as seen,
    string_agg(distinct concat(state, chr(31), application, chr(31), version), chr(30)) as kinds,
    arg_max(verdict, judged.seen) as verdict, arg_max(staged, judged.seen) as staged
from judged group by 1, 2, 3, 4, 5, 6
"""

# By position: a name would mean the bucket of the rows that come in, not the one that goes out.
_MERGE = """
select {bucket} as bucket, side, source, destination, protocol, port,
    max(original_port) as original_port, sum(connections) as connections,
    sum(packets) as packets, sum(bytes) as bytes, min(first_seen) as first_seen,
    max(last_seen) as last_seen, max(encryption) as encryption, bool_or(proven) as proven,
    bool_or(seen) as seen, string_agg(distinct kinds, chr(30)) as kinds,
    arg_max(verdict, last_seen) as verdict, arg_max(staged, last_seen) as staged
from ({rows}) as pieces group by 1, 2, 3, 4, 5, 6
"""


class History:
    """One DuckDB file; writers take turns, readers never wait for them."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = duckdb.connect(
                str(path), config={"memory_limit": MEMORY, "preserve_insertion_order": "false"}
            )
        except duckdb.Error as error:
            raise NetwatchError(
                f"the flow history {path} can not be opened: {str(error).splitlines()[0][:200]}",
                "is another netwatch using this folder?",
                code="state-in-use",
            ) from None
        self._connection.execute(_SCHEMA)
        self._lock = threading.Lock()
        with self._read() as cursor:
            self._rolled = _first(cursor, "select value from marks where name = 'rolled'") or 0
            newest = _first(cursor, "select max(batch) from reports") or 0
            self._batch = max(newest, self._rolled)
            self._known = _Ledger(
                cursor.execute("select host, boot, sequence from reports").fetchall()
            )

    def close(self) -> None:
        """Checkpoints and closes the file."""
        with self._lock:
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
            except BaseException as error:
                with contextlib.suppress(duckdb.Error):
                    cursor.rollback()
                if isinstance(error, duckdb.Error):
                    raise _failed(error) from None
                raise

    # reports

    def knows(self, report: Report) -> bool:
        """Whether this report was counted before."""
        with self._lock:
            return self._known.has(report.host, report.boot, report.sequence)

    def append(self, report: Report, flows: Sequence[Named], now: int) -> bool:
        """Counts the report in one durable transaction; False if it was counted before.

        Raises OverflowError or ValueError, with nothing counted, for numbers no counter has.
        """
        rows = columns.from_flows(flows, host=report.host, latest=now + FIVE_MINUTES)
        with self._lock:
            if self._known.has(report.host, report.boot, report.sequence):
                return False
            batch = self._batch + 1
            with self._write() as cursor:
                if flows:
                    rows["batch"] = np.full(len(flows), batch, dtype=np.int64)
                    names = ", ".join(rows)
                    cursor.register("arrived", rows)
                    cursor.execute(
                        f"insert into flows ({names}, connection) select {names}, hash(host, "
                        "reporter, protocol, client_address, client_port, server_address, "
                        "server_port, first_seen) from arrived"
                    )
                    cursor.unregister("arrived")
                cursor.execute(
                    "insert into reports values (?, ?, ?, ?, ?)",
                    [report.host, report.boot, report.sequence, batch, now],
                )
                for reason, count in report.losses:
                    cursor.execute(
                        "insert into losses values (?, ?, ?) on conflict (host, reason) "
                        "do update set count = count + excluded.count",
                        [report.host, reason, count],
                    )
            self._batch = batch
            self._known.add(report.host, report.boot, report.sequence)
        return True

    def losses(self) -> dict[str, dict[str, int]]:
        """Totals by host and reason."""
        found: dict[str, dict[str, int]] = {}
        with self._read() as cursor:
            query = "select host, reason, count from losses order by all"
            for host, reason, count in cursor.execute(query).fetchall():
                found.setdefault(host, {})[reason] = int(count)
        return found

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
            pieces = _pieces(
                since,
                until,
                rolled=marks.get("rolled", 0),
                exact_from=max(marks.get("purged", 0), marks.get("folded", 0)),
            )
            rows = " union all ".join(f"select {_COLUMNS} from ({piece})" for piece in pieces)
            found = cursor.execute(_MERGE.format(bucket="0", rows=rows)).fetchall()
            cursor.commit()
        return [columns.half(row) for row in found]

    # flows

    def flows(self, query: FlowQuery) -> tuple[list[Flow], str | None]:
        """Conversations, newest first: the deltas of a connection are one flow."""
        limit = max(1, min(query.limit, ROWS_LIMIT))
        where, values = columns.where_of(query)
        having, more = columns.having_of(query)
        hits = f"""
            select connection, max(seen) as newest from flows where {where}
            group by connection having {having}
            order by newest desc, connection desc limit {limit + 1}"""
        with self._read() as cursor:
            found = cursor.execute(hits, values + more).fetchall()
            page = found[:limit]
            if not page:
                return [], None
            ids = ", ".join(str(int(row[0])) for row in page)
            select = columns.CONVERSATIONS.format(where=f"{where} and connection in ({ids})")
            rows = {row[0]: row for row in cursor.execute(select, values).fetchall()}
        flows = [columns.flow_of(rows[connection]) for connection, _ in page]
        last = page[-1]
        return flows, f"{last[1]}-{last[0]}" if len(found) > limit else None

    # upkeep

    def roll_up(self, now: int) -> None:
        """Moves what has settled into `five_minutes`, and what is old there into `hours`."""
        with self._lock, self._write() as cursor:
            settled = "select max(batch) from reports where received <= ?"
            newest = _first(cursor, settled, [now - SETTLE])
            if newest is not None and newest > self._rolled:
                where = f"batch > {self._rolled} and batch <= {newest}"
                bucket = f"judged.seen - judged.seen % {FIVE_MINUTES}"
                rows = _FROM_FLOWS.format(where=where, bucket=bucket)
                cursor.execute(f"insert into five_minutes select {_SATURATED} from ({rows})")
                cursor.execute("insert or replace into marks values ('rolled', ?)", [newest])
            else:
                newest = self._rolled
            old = now - FIVE_MINUTES_KEPT
            old -= old % HOUR
            moved = f"select * from five_minutes where bucket < {old}"
            if _first(cursor, f"select count(*) from ({moved})"):
                rows = _MERGE.format(bucket=f"bucket - bucket % {HOUR}", rows=moved)
                cursor.execute(f"insert into hours select {_SATURATED} from ({rows})")
                cursor.execute(f"delete from five_minutes where bucket < {old}")
                cursor.execute("insert or replace into marks values ('folded', ?)", [old])
        self._rolled = newest

    def purge(self, now: int, *, retention_hours: float) -> None:
        """Deletes single flows, hours and ledger rows that are older than they are kept."""
        oldest = now - int(retention_hours * HOUR)
        with self._lock, self._write() as cursor:
            cursor.execute(
                "delete from flows where seen < ? and batch <= ?", [oldest, self._rolled]
            )
            cursor.execute("insert or replace into marks values ('purged', ?)", [oldest])
            cursor.execute("delete from hours where bucket < ?", [now - HOURS_KEPT])
            cursor.execute(
                "delete from reports using (select host, boot, max(sequence) as last, "
                "max(received) as heard from reports group by host, boot) as newest "
                "where reports.host = newest.host and reports.boot = newest.boot and batch <= ? "
                "and (sequence <= newest.last - ? or newest.heard < ?)",
                [self._rolled, WINDOW, now - BOOTS_KEPT],
            )


def _failed(error: duckdb.Error) -> NetwatchError:
    return NetwatchError(
        f"the flow history can not be written: {str(error).splitlines()[0][:200]}",
        "is there room on the disk of the state folder?",
        code="history-failed",
    )


class _Ledger:
    """Which reports were counted: the last WINDOW of each boot one by one, all before as known."""

    def __init__(self, rows: Sequence[tuple[str, str, int]]) -> None:
        self._seen: dict[tuple[str, str], set[int]] = {}
        self._last: dict[tuple[str, str], int] = {}
        for host, boot, sequence in rows:
            self.add(host, boot, sequence)

    def has(self, host: str, boot: str, sequence: int) -> bool:
        key = (host, boot)
        if key not in self._last:
            return False
        return sequence in self._seen[key] or sequence <= self._last[key] - WINDOW

    def add(self, host: str, boot: str, sequence: int) -> None:
        key = (host, boot)
        seen = self._seen.setdefault(key, set())
        seen.add(sequence)
        last = self._last[key] = max(sequence, self._last.get(key, sequence))
        if len(seen) > 2 * WINDOW:
            self._seen[key] = {number for number in seen if number > last - WINDOW}


def _first(
    cursor: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] = ()
) -> int | None:
    row = cursor.execute(query, list(values)).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _pieces(since: int | None, until: int | None, *, rolled: int, exact_from: int) -> list[str]:
    """Queries that together hold every delta of [since, until) once. Only numbers go into them.

    Whole buckets come from the roll-ups. The ragged ends come from single flows where these are
    complete (`exact_from` on); before it, the bucket that the end falls in is taken whole.
    """
    start = 0 if since is None else int(since)
    end = _END if until is None else int(until)
    lower, upper = start - start % FIVE_MINUTES, end - end % FIVE_MINUTES
    if start > lower and start >= exact_from:
        lower += FIVE_MINUTES
    if end > upper and upper < exact_from:
        upper += FIVE_MINUTES
    ragged = (
        f"batch <= {rolled} and ((seen >= {start} and seen < {min(lower, end)}) "
        f"or (seen >= {max(upper, start)} and seen < {end}))"
    )
    newer = f"batch > {rolled} and seen >= {start} and seen < {end}"
    wheres = [newer] if (lower, upper) == (start, end) else [newer, ragged]
    return [
        f"select * from hours where bucket < {end} and bucket + {HOUR} > {start}",
        f"select * from five_minutes where bucket >= {lower} and bucket < {upper}",
        *(_FROM_FLOWS.format(where=where, bucket="0") for where in wheres),
    ]

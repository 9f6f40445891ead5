"""The SQL of the flow history as text; history.py runs it. Values go in as parameters."""

from __future__ import annotations

from netwatch.model.times import SECOND

FIVE_MINUTES = 300 * SECOND
HOUR = 3_600 * SECOND
_DAY = 24 * HOUR
_END = 2**62 // FIVE_MINUTES * FIVE_MINUTES  # later than any time, and the end of a bucket

_KEY = "source, destination, protocol, port"
COLUMNS = f"""bucket, side, {_KEY}, original_port, connections, packets, bytes, first_seen,
    last_seen, encryption, proven, seen, kinds, verdict, staged, link, name"""

# A sum is wider than a column. Only a lying agent reaches the end of one; it stops there.
SATURATED = COLUMNS.replace(
    "connections, packets, bytes,",
    ", ".join(f"least({name}, {2**62})" for name in ("connections", "packets", "bytes")) + ",",
).replace("kinds,", "array_to_string(list_distinct(string_split(kinds, chr(30))), chr(30)),")

_ROLLUP = """(
    bucket bigint not null, side varchar not null, source varchar not null,
    destination varchar not null, protocol varchar not null, port integer not null,
    original_port integer not null, connections bigint not null, packets bigint not null,
    bytes bigint not null, first_seen bigint not null, last_seen bigint not null,
    encryption tinyint not null, proven boolean not null, seen boolean not null,
    kinds varchar not null, verdict varchar, staged varchar, link tinyint, name varchar)"""

SCHEMA = f"""
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
    details varchar, verdict varchar, staged varchar, link tinyint, name varchar);
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

# Columns that a file made by an older version lacks; they are the last ones of new files too.
ADDED = "".join(
    f"alter table {table} add column if not exists {column};"
    for table in ("flows", "five_minutes", "hours")
    for column in ("link tinyint", "name varchar")
)

# Nobody reads what is returned. But with it one thread inserts; for several of them DuckDB would
# copy all rows once more, which takes a third of the time.
INSERT = """
insert into flows ({names}, host, batch, connection)
select {names}, $host, $batch, hash($host, reporter, protocol, client_address, client_port,
    server_address, server_port, first_seen)
from arrived returning batch"""

LOST = """
insert into losses values (?, ?, ?)
on conflict (host, reason) do update set count = count + excluded.count"""

# A clock that was set back does not bring back what went.
MARK = """
insert into marks values (?, ?)
on conflict (name) do update set value = greatest(value, excluded.value)"""

USED = "select used_blocks * block_size from pragma_database_size()"

# What is dropped first where room is short: table, its time, why it is lost, and whose loss it is.
BY_DETAIL = (
    ("flows", "seen", "flows dropped for room", "host"),
    ("five_minutes", "bucket", "sums dropped for room", "''"),
    ("hours", "bucket", "sums dropped for room", "''"),
)

# One row per key from single deltas. A delta that could not be judged takes the judgement of its
# connection if a later one had it; 2 is "payload, and nobody knows", 0 "no payload at all".
# `kinds` are (state, application, version) triples as text: arrays made it three times as slow.
FROM_FLOWS = """
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
    if(max(judged.seen) filter (where verdict = 'violated') >= max(judged.seen) - 300000000000,
        'violated', arg_max(verdict, judged.seen)) as verdict,
    arg_max(staged, judged.seen) as staged,
    max(link) as link, arg_max(name, judged.seen) as name
from judged group by 1, 2, 3, 4, 5, 6
"""

# A broken obligation stands for five minutes (in nanoseconds): the next conversation may keep the
# rule, and would hide it from everybody within a second.
# By position: a name would mean the bucket of the rows that come in, not the one that goes out.
MERGE = """
select {bucket} as bucket, side, source, destination, protocol, port,
    max(original_port) as original_port, sum(connections) as connections,
    sum(packets) as packets, sum(bytes) as bytes, min(first_seen) as first_seen,
    max(last_seen) as last_seen, max(encryption) as encryption, bool_or(proven) as proven,
    bool_or(seen) as seen, string_agg(distinct kinds, chr(30)) as kinds,
    if(max(last_seen) filter (where verdict = 'violated') >= max(last_seen) - 300000000000,
        'violated', arg_max(verdict, last_seen)) as verdict,
    arg_max(staged, last_seen) as staged,
    max(link) as link, arg_max(name, last_seen) as name
from ({rows}) as pieces group by 1, 2, 3, 4, 5, 6
"""


# Conversations put together that differ in nothing that a replay looks at: `class` columns, then
# sums and extremes. Only connections of several deltas are put together one by one: sorting all of
# ten million by their number would take the memory of a small machine. A day is in nanoseconds.
ALIKE = f"""
with part as not materialized (select * from flows where seen >= $1 and seen < $2),
several as materialized (select connection from part group by connection having count(*) > 1),
conversations as not materialized (
    select source, client_address, destination, server_address, protocol, server_port, reporter,
        state, direction, encryption, verdict, first_seen, seen, connections
    from part anti join several using (connection)
    union all
    select any_value(source), any_value(client_address), any_value(destination),
        any_value(server_address), any_value(protocol), any_value(server_port),
        any_value(reporter), arg_max(state, seen),
        if(bool_or(direction = 'seen'), 'seen', 'guessed'),
        coalesce(arg_max(encryption, seen) filter (encryption <> 'unknown'), 'unknown'),
        arg_max(verdict, seen), min(first_seen), max(seen), sum(connections)::bigint
    from part semi join several using (connection) group by connection)
select source, client_address, destination, server_address, protocol, server_port,
    if(reporter = 'server', 'server', 'client'), state, direction, encryption, verdict,
    min(first_seen), max(seen), sum(connections)
from conversations
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, first_seen // {_DAY}, seen // {_DAY}
"""


def pieces(since: int | None, until: int | None, *, rolled: int, exact_from: int) -> list[str]:
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
        *(FROM_FLOWS.format(where=where, bucket="0") for where in wheres),
    ]

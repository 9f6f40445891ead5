"""A history of many flows, made inside DuckDB by the history's own schema and rolled up by it.

24 hours of 2,000 workloads on 100 hosts with 8,000 edges, few of them busy; three of ten rows are
parts of one longer connection.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from netwatch.controller.history import History
from netwatch.controller.statements import FIVE_MINUTES, HOUR
from netwatch.controller.upkeep import SETTLE
from netwatch.model.times import SECOND

END = 1_795_315_200 * SECOND
DAY = 24 * HOUR

# `e` is the edge: the cube of an even number makes few edges busy and many quiet.
_MADE = """
insert into flows (batch, connection, seen, first_seen, source, destination, protocol, port, host,
    reporter, client_address, client_port, server_address, server_port, original_port,
    client_packets, server_packets, client_bytes, server_bytes, client_payload, server_payload,
    connections, state, application, direction, encryption, version, details, verdict)
select seen // 60000000000 as batch, hash(c), seen, seen - (i - c) * 1000000000 - 500000000,
    host_a || '/n' || (a % 60) || '/w' || a, host_b || '/n' || (b % 60) || '/w' || b, 'tcp', port,
    host_a, 'client', address_a, 32768 + hash(c, 3) % 28000, address_b, port, -1,
    6, 5, 900, 4200, 500, 3900, if(i = c, 1, 0), 'established', if(tls, 'tls', 'http'), 'seen',
    if(tls, 'encrypted', 'plaintext'), if(tls, 'TLSv1.3', null),
    if(tls, '[{"status":"encrypted","proof":"handshake","protocol":"tls","version":"TLSv1.3",'
        || '"cipher":"TLS_AES_128_GCM_SHA256","server_name":"svc' || b || '.example"}]',
        '[{"status":"plaintext","proof":"content","protocol":"http"}]'), 'allow'
from (select i, c, seen, a, b, port, port = 443 as tls, 'h' || (a % 100) as host_a,
        'h' || (b % 100) as host_b, '198.18.' || (a // 250) || '.' || (a % 250 + 1) as address_a,
        '198.18.' || (b // 250) || '.' || (b % 250 + 1) as address_b
    from (select i, c, (START + i * (DAY / ROWS))::bigint as seen, (hash(e, 1) % 2000)::int as a,
            (hash(e, 2) % 2000)::int as b, if(e % 4 = 0, 80, 443) as port
        from (select i, c, floor(((hash(c, 9) % 1000003) / 1000003.0) ** 3 * 8000)::int as e
            from (select i, if(i % 10 >= 7, i - (i % 10 - 7), i) as c
                from range(ROWS) t(i)))))
"""


def fill(path: Path, rows: int, *, every: int = FIVE_MINUTES) -> None:
    """`rows` rows of the day before END, rolled up `every` so many nanoseconds of it."""
    History(path).close()
    made = duckdb.connect(str(path), config={"memory_limit": "2GB"})
    start = END - DAY
    query = _MADE.replace("START", str(start)).replace("DAY", str(DAY)).replace("ROWS", str(rows))
    made.execute(query)
    made.execute(
        "insert into reports select 'h0', 'boot', batch, batch, (batch + 1) * 60000000000 "
        "from (select distinct batch from flows)"
    )
    made.close()
    history = History(path)
    for at in range(start, END + 2 * every, every):
        history.roll_up(at + SETTLE)
    history.close()

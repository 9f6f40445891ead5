"""The flow history at ten million flows: taking them in, edges of an hour and of a day, replay.

Run it as anybody: `.venv/bin/python tests/bench/history.py [--json] [--rows N]`. The rows are made
inside DuckDB by the history's own schema: 24 hours of 2,000 workloads on 100 hosts with 8,000
edges, few of them busy; three of ten rows are parts of one longer connection. They are rolled up
by the history itself, every five minutes of them. What is taken in goes the way of reports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from netwatch.controller.columns import Named
from netwatch.controller.history import SETTLE, History
from netwatch.controller.records import FlowQuery
from netwatch.controller.statements import FIVE_MINUTES, HOUR
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.report import Report
from netwatch.model.times import SECOND

END = 1_795_315_200 * SECOND
DAY = 24 * HOUR
REPEATS = 5
TAKEN_IN = 50  # reports of 10,000 flows
GATES = {"ingest_rows_s": 100_000, "edges_1h_s": 0.3, "edges_24h_s": 3.0, "replay_s": 10.0}

# `e` is the edge: the square of an even number makes few edges busy and many quiet.
_MADE = """
insert into flows (batch, connection, seen, first_seen, source, destination, protocol, port, host,
    reporter, client_address, client_port, server_address, server_port, original_port,
    client_packets, server_packets, client_bytes, server_bytes, client_payload, server_payload,
    connections, state, application, direction, encryption, version, details, verdict)
select seen // 60000000000 as batch, hash(c), seen, seen - (i - c) * 1000000000 - 500000000,
    'h' || (a % 100) || '/n' || (a % 60) || '/w' || a, 'h' || (b % 100) || '/n' || (b % 60) || '/w' || b,
    'tcp', port, 'h' || (a % 100), 'client', address_a, 32768 + hash(c, 3) % 28000, address_b, port, -1,
    6, 5, 900, 4200, 500, 3900, if(i = c, 1, 0), 'established', if(encrypted, 'tls', 'http'), 'seen',
    if(encrypted, 'encrypted', 'plaintext'), if(encrypted, 'TLSv1.3', null),
    if(encrypted, '[{"status":"encrypted","proof":"handshake","protocol":"tls","version":"TLSv1.3","cipher":"TLS_AES_128_GCM_SHA256","server_name":"svc' || b || '.example"}]',
    '[{"status":"plaintext","proof":"content","protocol":"http"}]'), 'allow'
from (select i, c, seen, a, b, port, port = 443 as encrypted,
        '198.18.' || (a // 250) || '.' || (a % 250 + 1) as address_a,
        '198.18.' || (b // 250) || '.' || (b % 250 + 1) as address_b
    from (select i, c, (START + i * (DAY / ROWS))::bigint as seen, (hash(e, 1) % 2000)::int as a,
            (hash(e, 2) % 2000)::int as b, if(e % 4 = 0, 80, 443) as port
        from (select i, c, floor(((hash(c, 9) % 1000003) / 1000003.0) ** 3 * 8000)::int as e
            from (select i, if(i % 10 >= 7, i - (i % 10 - 7), i) as c from range(ROWS) t(i)))))
"""


def fill(path: Path, rows: int) -> None:
    """`rows` rows of a day, rolled up as the controller would have."""
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
    for at in range(start, END + 2 * FIVE_MINUTES, FIVE_MINUTES):
        history.roll_up(at + SETTLE)
    history.close()


def median_s(what: Callable[[], object]) -> float:
    """The median of REPEATS runs, in seconds."""
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        what()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def ingest(history: History) -> float:
    """Rows a second of reports of 10,000 flows, each a durable transaction."""
    tls = Encryption("encrypted", "handshake", "tls", "TLSv1.3")
    named = []
    for n in range(10_000):
        client = Endpoint(f"198.18.0.{n % 250}", 32_768 + n % 28_000, f"a/x/c{n % 250}")
        server = Endpoint(f"198.18.1.{n % 200}", 443, f"a/x/s{n % 200}")
        flow = Flow(
            client, server, "tcp", END - SECOND, END, 5, 4, 600, 400, 100, 80,
            state="established", direction="seen", encryption=tls, reporter="client",
        )  # fmt: skip
        named.append(Named(flow, f"a/x/c{n % 250}", f"a/x/s{n % 200}", 443, None))
    started = time.perf_counter()
    for sequence in range(TAKEN_IN):
        history.append(Report("a", "bench", sequence, END - SECOND, END), named, END)
    return TAKEN_IN * len(named) / (time.perf_counter() - started)


def measure(path: Path) -> dict[str, float]:
    """The figures of one filled history."""
    history = History(path)
    found = {
        "edges_1h_s": median_s(lambda: history.edges(END - HOUR - 7 * SECOND, END)),
        "edges_24h_s": median_s(lambda: history.edges(END - DAY + 7 * SECOND, END)),
        "edges_all_s": median_s(lambda: history.edges(None, None)),
        "flows_newest_s": median_s(lambda: history.flows(FlowQuery())),
        "edges": len(history.edges(None, None)),
        "ingest_rows_s": ingest(history),
        "file_bytes": path.stat().st_size,
    }
    history.close()
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true")
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--keep", type=Path, help="A folder whose history.db is kept and reused.")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = (given.keep or Path(folder)) / "history.db"
        if not path.exists():
            fill(path, given.rows)
        found = measure(path)
    print(json.dumps(found) if given.json else "\n".join(f"{k}: {v:,.3f}" for k, v in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

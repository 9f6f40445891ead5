"""The flow history at ten million flows: taking them in, edges of an hour and of a day, replay.

Run it as anybody: `.venv/bin/python -m tests.bench.history [--json] [--rows N] [--keep FOLDER]`.
The rows are those of tests/many_flows.py. What is taken in goes the way of reports.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from netwatch.controller.columns import Named
from netwatch.controller.history import History
from netwatch.controller.records import FlowQuery
from netwatch.controller.replays import replay_of
from netwatch.controller.statements import HOUR
from netwatch.model.flow import Encryption, Endpoint, Flow
from netwatch.model.policy_version import Document
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.model.workload import Label, Workload
from tests.many_flows import DAY, END, fill

REPEATS = 5
TAKEN_IN = 50  # reports of 10,000 flows
DOCUMENTS = 60
GATES = {"ingest_rows_s": 100_000, "edges_1h_s": 0.3, "edges_24h_s": 3.0, "replay_s": 10.0}


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
    boot = secrets.token_hex(8)  # a kept history has seen those of the run before
    started = time.perf_counter()
    for sequence in range(TAKEN_IN):
        assert history.append(Report("a", boot, sequence, END - SECOND, END), named, END)
    return TAKEN_IN * len(named) / (time.perf_counter() - started)


def replay(history: History) -> int:
    """All stored flows against DOCUMENTS Segments; how many connections were judged."""
    workloads = tuple(
        Workload(
            f"h{n % 100}", f"n{n % 60}", f"w{n}", "bench",
            labels=(Label("app", f"a{n % 50}", "own"),),
            addresses=(f"198.18.{n // 250}.{n % 250 + 1}",),
        )
        for n in range(2_000)
    )  # fmt: skip
    text = "".join(
        "---\napiVersion: netwatch/v1\nkind: Segment\n"
        f"metadata: {{name: s{n}, namespace: n{n}}}\nspec:\n  governs: {{app: a{n % 50}}}\n"
        f"  rules: [{{from: {{app: a{n * 7 % 50}}}, ports: 443}}]\n"
        for n in range(DOCUMENTS)
    )
    flows, left = history.alike(None, None)
    found = replay_of(
        flows, [Document("draft.yaml", text)], before=None, world=(workloads, ()), now=END,
        left_out=left,
    )  # fmt: skip
    return sum(row.call.connections for row in found.rows)


def measure(path: Path) -> dict[str, float]:
    """The figures of one filled history."""
    history = History(path)
    found = {
        "edges_1h_s": median_s(lambda: history.edges(END - HOUR - 7 * SECOND, END)),
        "edges_24h_s": median_s(lambda: history.edges(END - DAY + 7 * SECOND, END)),
        "edges_all_s": median_s(lambda: history.edges(None, None)),
        "flows_newest_s": median_s(lambda: history.flows(FlowQuery())),
        "replay_s": median_s(lambda: replay(history)),
        "replayed_connections": replay(history),
        "edges": len(history.edges(None, None)),
        "ingest_rows_s": ingest(history),
        "file_bytes": path.stat().st_size,
    }
    history.close()
    return found


def main() -> int:
    """Print the figures beside their gates, or JSON."""
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
    print(
        json.dumps(found) if given.json else "\n".join(f"{k}: {v:,.3f}" for k, v in found.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The flow history at ten million flows: taking them in, edges of an hour and of a day, replay.

Run it as anybody: `.venv/bin/python -m tests.bench.history [--json] [--rows N] [--keep FOLDER]`.
The rows are those of tests/many_flows.py. What is taken in goes the way of reports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from netwatch import wire
from netwatch.controller.columns import Named
from netwatch.controller.history import History
from netwatch.controller.records import FlowQuery
from netwatch.controller.replays import replay_of
from netwatch.controller.statements import HOUR
from netwatch.model.flow import Encryption, Endpoint, Flow, Process
from netwatch.model.policy_version import Document
from netwatch.model.report import Report
from netwatch.model.times import SECOND
from netwatch.model.workload import Label, Workload
from tests.many_flows import DAY, END, fill

REPEATS = 5
TAKEN_IN = 50  # reports of ROWS flows
ROWS = 10_000
SERVERS = 60  # that differ in what their handshakes tell
HALF = SECOND // 2
DECODED = 3  # reports that take turns, so that none is still warm from its turn before
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


def arrived() -> list[Named]:
    """A report of ROWS flows as it comes off the wire: no two flows share an object, nor a time.

    1,000 pairs of 250 clients and 200 servers, which are called by SERVERS names; three of four
    speak TLS with all that a handshake tells.
    """
    made = []
    for n in range(ROWS):
        server = n % 200
        encryption = ENCRYPTIONS[server % SERVERS]
        name, told = (encryption.server_name, "sni") if encryption.server_name else (None, None)
        made.append(
            Flow(
                Endpoint(
                    f"198.18.0.{n % 250}", 32_768 + n % 28_000, f"a/x/c{n % 250}",
                    Process(2_000 + n % 250, "/usr/bin/curl", 1_000, "app"),
                ),
                Endpoint(f"198.18.1.{server}", 443, f"a/x/s{server}", None, name, told),
                "tcp", END - SECOND + n * 7_919_773 % HALF, END - n * 15_485_863 % HALF,
                5 + n % 7, 4 + n % 5,
                600 + n % 1_200, 400 + n % 3_100, 100 + n % 1_200, 80 + n % 3_100,
                state="reset" if n % 50 == 0 else "established",
                application=encryption.protocol, direction="seen", encryption=encryption,
                reporter="client", verdict="allow",
            )
        )  # fmt: skip
    report = wire.unpack(wire.pack(Report("a", "boot", 0, END - SECOND, END, flows=tuple(made))))
    return [
        Named(f, f.client.workload or "", f.server.workload or "", 443, None) for f in report.flows
    ]


def _encryption(server: int) -> Encryption:
    if server % 4 == 0:
        return Encryption("plaintext", "content", "http")
    hello = hashlib.sha256(str(server).encode()).hexdigest()
    return Encryption(
        "encrypted", "handshake", "tls", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519",
        f"svc{server}.example", ("h2", "http/1.1"), "h2", hello[:32], hello[32:],
        f"t13d1516h2_{hello[:12]}_{hello[-12:]}", ech=False,
    )  # fmt: skip


ENCRYPTIONS = [_encryption(server) for server in range(SERVERS)]


def ingest(history: History) -> tuple[float, float]:
    """Rows a second, and rows a second of CPU, of reports that are a durable transaction each."""
    reports = [arrived() for _ in range(DECODED)]
    boot = secrets.token_hex(8)  # a kept history has seen those of the run before
    started, worked = time.perf_counter(), time.process_time()
    for sequence in range(TAKEN_IN):
        report = Report("a", boot, sequence, END - SECOND, END)
        assert history.append(report, reports[sequence % DECODED], END)
    took, worked = time.perf_counter() - started, time.process_time() - worked
    return TAKEN_IN * ROWS / took, TAKEN_IN * ROWS / worked


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
        "file_bytes": path.stat().st_size,
    }
    found["ingest_rows_s"], found["ingest_rows_cpu_s"] = ingest(history)
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
    if given.json:
        print(json.dumps(found))
    else:
        for name, figure in found.items():
            gate = f" (gate {GATES[name]:,})" if name in GATES else ""
            print(f"{name}: {figure:,.3f}{gate}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

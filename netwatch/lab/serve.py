"""The processes of a lab: `python -m netwatch.lab.serve`, orders on stdin, pids on stdout.

One start of Python serves for all: this process enters the namespace of each workload in turn and
forks there, so that a child belongs to its workload from birth and `lab down` finds it whatever
happens. It has no thread when it forks. When every child accepts on all its ports, it prints
`{"pids": {name: pid}, "skipped": [...]}` and ends; children begin to call at SIGUSR1.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from typing import NoReturn

from netwatch.kernel.namespaces import enter, path_of_name
from netwatch.lab import clients, servers
from netwatch.lab.orders import Orders, decode

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
GO = signal.SIGUSR1


def main() -> None:
    """Fork the workloads named on stdin; ends with 1 if one of them died before it was ready."""
    libc = ctypes.CDLL("libc.so.6", use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no more children after `lab up` was killed
    signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
    task = json.load(sys.stdin)
    if os.getppid() != task["parent"]:
        sys.exit("lab up was killed before its workloads began")
    pids: dict[str, int] = {}
    readiness: dict[str, int] = {}
    for row in task["orders"]:
        orders = decode(row)
        enter(path_of_name(orders.netns))
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ready)
            libc.prctl(PR_SET_NAME, f"lab {orders.name}"[:15].encode(), 0, 0, 0)
            _live(orders, tell)
        os.close(tell)
        pids[orders.name], readiness[orders.name] = pid, ready
    skipped: list[str] = []
    for name, ready in readiness.items():
        with os.fdopen(ready) as said:
            line = said.readline()
        if not line:
            sys.exit(f"the process of {name} ended before it was ready")
        skipped += json.loads(line)
    json.dump({"pids": pids, "skipped": skipped}, sys.stdout)


def _live(orders: Orders, tell: int) -> NoReturn:
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    skipped = servers.open_all(orders)
    os.write(tell, json.dumps(skipped).encode() + b"\n")
    os.close(tell)
    signal.sigwait({GO})
    clients.start_all(orders.calling)
    while True:
        threading.Event().wait()


if __name__ == "__main__":
    main()

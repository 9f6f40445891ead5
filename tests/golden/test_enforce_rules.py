"""The rules for one small host as text: a change of layout shows here, line by line.

`NETWATCH_GOLDEN=write` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from netwatch.enforce.compile import compile
from netwatch.enforce.plan import Actual, plan
from netwatch.model.workload import PublishedPort
from netwatch.policy.ir import Mode, NetworkPeer, Policy, PortSpec, WorkloadPeer
from tests.unit.enforce.worlds import allow, chosen, policy, snapshot, workload

FOLDER = Path(__file__).parent / "enforce"
HOST = snapshot(
    workload("web", 10, published=(PublishedPort("0.0.0.0", 8080, 80, "tcp"),)),
    workload("api", 11),
    workload("rogue", 12),
)
INGRESS = policy(
    chosen("app", "api"),
    isolates_ingress=True,
    ingress=(
        allow(WorkloadPeer(chosen("app", "web")), ports=(PortSpec("tcp", 80, 82),)),
        allow(NetworkPeer("198.51.100.0/24", ("198.51.100.128/25",))),
        allow(ports=(PortSpec("udp", 53, 53),)),
    ),
)
EGRESS = policy(
    chosen("app", "web"),
    name="egress",
    isolates_egress=True,
    egress=(allow(WorkloadPeer(chosen("app", "api"))), allow(NetworkPeer("0.0.0.0/0"))),
)
STAGED = policy(chosen("app", "rogue"), name="staged", mode=Mode.STAGE, isolates_egress=True)


def numbered(text: str) -> str:
    """Digests as numbers in order of appearance: what they hash may gain a field any day."""
    seen: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"{found[1]}#{seen.setdefault(found[2], len(seen) + 1)}"

    return re.sub(r"(nw:(?:[ADU]:)?|nw-(?:s-)?[bden]-)([0-9a-f]{12}|[0-9a-f]{10})", number, text)


@pytest.mark.parametrize(
    ("name", "documents"),
    [
        pytest.param("nothing", (), id="no document"),
        pytest.param("enforced", (INGRESS, EGRESS), id="enforced"),
        pytest.param("staged", (STAGED,), id="staged"),
    ],
)
def test_the_first_apply_says_this(name: str, documents: tuple[Policy, ...]) -> None:
    change = plan(compile(documents, HOST, now=0), Actual())
    families = ((f"# rules, IPv{family}", *lines) for family, lines in change.rules)
    lines = ("# ipset", *sorted(change.before), *(line for part in families for line in part), "")
    told = numbered("\n".join(lines))
    file = FOLDER / f"{name}.txt"
    if os.environ.get("NETWATCH_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(told)
    assert told == file.read_text()

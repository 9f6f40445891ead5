"""What the controller finds missing of a host: late reports, watchers that went, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netwatch.controller.account import missing
from netwatch.model.host import HostState
from netwatch.model.report import Capture
from netwatch.model.times import SECOND
from netwatch.model.workload import Interface
from tests.unit.controller.samples import START, WEB, report

LINKED = replace(WEB, interfaces=(Interface("veth1", 4),))
BOTH = Capture("tcx", ("eth0", "veth1"))
BEFORE = HostState("a", capture=BOTH)
HERE = report("a", workloads=(LINKED,), capture=BOTH)


@pytest.mark.parametrize(
    ("told", "before", "had", "after", "lost"),
    [
        pytest.param(HERE, BEFORE, LINKED, 1, {}, id="all is well"),
        pytest.param(HERE, None, LINKED, 1, {}, id="the first report"),
        pytest.param(HERE, BEFORE, LINKED, 61, {"reports late": 1}, id="a minute late"),
        pytest.param(HERE, BEFORE, LINKED, -3_600, {}, id="from the future"),
        pytest.param(
            replace(HERE, capture=Capture("tcx", ("eth0",))),
            BEFORE, LINKED, 1, {"capture detached": 1}, id="its watcher went, it did not",
        ),
        pytest.param(
            replace(HERE, capture=Capture("tcx", ("eth0",)), workloads=()),
            BEFORE, LINKED, 1, {}, id="the workload went",
        ),
        pytest.param(
            replace(HERE, capture=Capture("none")),
            BEFORE, LINKED, 61, {"reports late": 1, "capture detached": 1}, id="both",
        ),
        pytest.param(
            replace(HERE, capture=Capture("conntrack")),
            replace(BEFORE, capture=Capture("conntrack")), LINKED, 1, {}, id="nothing attaches",
        ),
    ],
)  # fmt: skip
def test_what_is_missing(told, before, had, after, lost) -> None:
    assert dict(missing(told, before, (had,), START + after * SECOND)) == lost

"""What the controller judges by: policies as documents have them, the world as hosts tell it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netwatch.model.host import HostState
from netwatch.model.policy_version import Document
from netwatch.model.workload import Workload, workload_as_json
from netwatch.policy.document import check_together, parse
from netwatch.policy.ir import Policy, World
from netwatch.policy.world import world_of_rows


def world_of(workloads: Iterable[Workload], hosts: Iterable[HostState]) -> World:
    """These workloads, and the hosts' own addresses."""
    rows = [workload_as_json(workload) for workload in workloads]
    addresses = [address for host in hosts for address in host.addresses]
    return world_of_rows(rows, addresses, "the controller")


def policies_of(documents: Sequence[Document]) -> tuple[Policy, ...]:
    """All of them together; raises InvalidDocument."""
    found = [policy for each in documents for policy in parse(each.text, each.name)]
    check_together(found)
    return tuple(found)

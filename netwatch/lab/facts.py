"""What a lab host may know of itself and its neighbours: the input of discovery.

The calls of the lab file are not in it: what netwatch says about traffic it must have seen.
"""

from __future__ import annotations

from collections.abc import Mapping

from netwatch.lab.plan import BRIDGE, UPLINK, PlacedHost, PlacedWorkload, Plan
from netwatch.model.snapshot import Neighbour, Network, Snapshot
from netwatch.model.workload import DocumentedPort, Interface, Label, PublishedPort, Workload

ANY = ("0.0.0.0", "::")
NETWORK = "lab"


def snapshot(
    plan: Plan, host: PlacedHost, *, pids: Mapping[str, int], indexes: Mapping[str, int]
) -> Snapshot:
    """The snapshot of one host; `indexes` by name of interface, `pids` by name of workload."""
    neighbours = tuple(
        Neighbour(
            name=other.name,
            addresses=tuple(str(address) for address in other.uplink),
            routed=other.routed and host.routed,
            workloads=tuple(_workload(placed, pids, {}) for placed in plan.on(other.name)),
        )
        for other in plan.hosts
        if other is not host
    )
    return Snapshot(
        host=host.name,
        workloads=tuple(_workload(placed, pids, indexes) for placed in plan.on(host.name)),
        networks=(
            Network(
                name=NETWORK,
                driver="bridge",
                bridge=BRIDGE,
                subnets=tuple(str(subnet) for subnet in host.subnets),
                gateways=tuple(str(gateway) for gateway in host.gateways),
            ),
        ),
        neighbours=neighbours,
        namespaces=plan.lab.namespaces,
        addresses=tuple(str(address) for address in (*host.uplink, *host.gateways)),
        uplinks=(UPLINK,),
    )


def _workload(
    placed: PlacedWorkload, pids: Mapping[str, int], indexes: Mapping[str, int]
) -> Workload:
    spec = placed.spec
    index = indexes.get(placed.interface)
    link = () if index is None else (Interface(placed.interface, index, BRIDGE, NETWORK),)
    return Workload(
        host=spec.host,
        namespace=spec.namespace,
        name=spec.name,
        runtime="lab",
        labels=tuple(Label(key, value, "lab") for key, value in spec.labels),
        addresses=tuple(str(address) for address in placed.addresses),
        ports=tuple(
            DocumentedPort(listen.port, listen.protocol, "lab", listen.name)
            for listen in spec.listen
            if listen.documented
        ),
        published=tuple(
            PublishedPort(address, door.port, door.listen.port, door.listen.protocol)
            for door in placed.doors
            for address in ANY
        ),
        interfaces=link,
        networks=(NETWORK,),
        project=spec.project,
        service=spec.service,
        image=spec.image,
        runtime_id=placed.netns,
        pid=pids.get(spec.name) if link else None,
    )

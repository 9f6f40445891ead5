"""A question as people ask it: names, addresses and a port, made the parties of a judgement."""

from __future__ import annotations

import ipaddress

from netwatch.model.errors import UsageError
from netwatch.policy.explain import Question
from netwatch.policy.fields import meant
from netwatch.policy.ir import Party, World
from netwatch.policy.matrix import pair


def question(
    world: World, source: str, destination: str, *, protocol: str, port: int | None
) -> Question:
    """What is asked; raises UsageError for a name of nobody, or a port that is missing."""
    name = protocol.lower()
    if port is None and name in ("tcp", "udp", "sctp"):
        raise UsageError(f"{name} needs a port", "add the number of the destination's port")
    return Question(*_ends(world, source, destination), name, port)


def party(world: World, text: str) -> Party:
    """A workload by `namespace/name` or its id, the host, or whoever has the address.

    Raises UsageError for a name of nobody.
    """
    if text == "host":
        return Party(host=True)
    for workload in world.workloads:
        if text in (workload.key, workload.identity):
            return Party(workload)
    try:
        address = str(ipaddress.ip_address(text))
    except ValueError:
        known = [workload.key for workload in world.workloads]
        raise UsageError(f"nobody is called {text[:60]!r}", meant(text, known[:2000])) from None
    for workload in world.workloads:
        if address in workload.addresses:
            return Party(workload, address)
    return Party(None, address, host=address in world.host_addresses)


def _ends(world: World, source: str, destination: str) -> tuple[Party, Party]:
    """Both parties; between two workloads with addresses of a family that both have."""
    found = party(world, source), party(world, destination)
    workloads = found[0].workload, found[1].workload
    if None not in workloads and found[0].address is None and found[1].address is None:
        assert workloads[0] is not None and workloads[1] is not None
        return pair(workloads[0], workloads[1])
    return found

"""The two verdicts of every flow: what the kernel's documents say, and what staged ones would."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netwatch.enforce.ends import world_of
from netwatch.model.flow import Endpoint, Flow
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload
from netwatch.policy.evaluate import ENFORCED, STAGED, Judge
from netwatch.policy.ir import Decision, Party, Policy
from netwatch.policy.obligations import Outcome, judged

MAX_REMEMBERED = 100_000  # answers of one snapshot; a question costs about 10 us


def judge_of(
    policies: Sequence[Policy],
    snapshot: Snapshot,
    now: int,
    *,
    staged: Sequence[Policy] | None = None,
) -> Callable[[Flow], tuple[str | None, str | None]]:
    """A function from a flow to its (enforced, staged) verdicts; answers are remembered.

    `policies` are in the kernel. `staged` are judged in their place for the second verdict: where
    an agent only observes, what the controller's documents would do here.
    """
    world = world_of(snapshot)
    workloads = {w.identity: w for w in world.workloads}
    drafted = policies if staged is None else staged
    judges = Judge(policies, world, ENFORCED), Judge(drafted, world, STAGED)
    known: dict[object, tuple[Decision, Decision]] = {}

    def judge(flow: Flow) -> tuple[str | None, str | None]:
        source = party_of(flow.client, workloads, snapshot)
        destination = party_of(flow.server, workloads, snapshot)
        key = (flow.client.address, flow.server.address, flow.protocol, flow.server.port)
        if key not in known:
            if len(known) >= MAX_REMEMBERED:
                known.clear()
            enforced, staged = (
                j.decide(source, destination, flow.protocol, flow.server.port, now=now)
                for j in judges
            )
            known[key] = (enforced, staged)
        return _held(known[key][0], flow), _held(known[key][1], flow)

    return judge


def _held(decision: Decision, flow: Flow) -> str:
    """The verdict, or `violated` where the conversation broke what its rule demands."""
    if not decision.obligations or decision.verdict != "allow":
        return decision.verdict
    spoken = flow.client_payload_bytes > 0 or flow.server_payload_bytes > 0
    # Of a connection without a byte nothing can be known. A sum of a crowd has no client's port:
    # nobody kept its first bytes, and that is our haste, not its breach. A few of each edge are
    # judged one by one whatever the crowd, and speak for it.
    one = flow.client.port is not None
    strict = decision.strict and spoken and one
    kept = judged(decision.obligations, flow.encryption, strict=strict)
    return "violated" if kept is Outcome.VIOLATED else "allow"


def party_of(end: Endpoint, workloads: dict[str, Workload], snapshot: Snapshot) -> Party:
    """Who decide() is asked about; `workloads` are by identity."""
    workload = workloads.get(end.workload or "")
    is_host = workload is None and end.address in snapshot.addresses
    return Party(workload, end.address, host=is_host)

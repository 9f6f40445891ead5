"""After a reboot: what stood comes back from the disk, before a container can send a packet.

Nothing of it is left in the kernel or in /run then. Where the workloads can be told, everything is
in force again when this returns; where the runtime does not answer yet, what was closed is shut
whole until an agent, or a second call, can tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from netwatch.enforce import gate, host, kernel, quarantine, standing
from netwatch.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Restored:
    """`documents` and `quarantined` came back; `shut` are bridges that nothing passes yet."""

    documents: int = 0
    quarantined: tuple[str, ...] = ()
    shut: tuple[str, ...] = ()
    problem: str | None = None


def restore(snapshot: Snapshot, *, now: int) -> Restored:
    """Give force to what stood; nothing where something is applied already, or nothing stood.

    Raises Damaged if what was kept can not be read, and what `quarantine.settle` raises.
    """
    kept, problem = standing.read()
    off = standing.is_off()
    documents = () if off else kept.documents or ()
    state = host.applied()
    held = quarantine.quarantined()
    if documents and state is None:
        texts = [(suffix, text.encode()) for suffix, text in documents]
        host.bring_back(texts, backend=kept.backend, at=kept.at)
    if kept.quarantined and not held:
        quarantine.bring_back(kept.quarantined)
    names = tuple(entry.workload for entry in quarantine.quarantined())
    if not documents and not names:
        return Restored(problem=problem)
    shut: tuple[str, ...] = ()
    if not snapshot.problem:
        quarantine.settle(snapshot, now=now)
    elif kept.closed and state is None:
        host.remember_before()
        gate.shut(kept.closed, kernel.find_backend(kept.backend))
        shut = kept.closed
    return Restored(len(documents), names, shut, problem)

"""Works out what the process of each workload has to serve and whom it has to call."""

from __future__ import annotations

from collections.abc import Iterable

from netwatch.lab import certificate
from netwatch.lab.directory import Entry, NotInLab, reach
from netwatch.lab.orders import Calling, Orders, Serving
from netwatch.lab.plan import INTERNET_NETNS, PlacedWorkload, Plan, directory
from netwatch.lab.spec import INTERNET, Call, Listen
from netwatch.model.errors import InvalidDocument


def assign(plan: Plan, *, now: int, file: str | None = None) -> list[Orders]:
    """The orders of every workload, and of `internet`.

    `now`: nanoseconds since the epoch. Raises InvalidDocument for a call that can not be made.
    """
    entries = directory(plan)
    offers = {workload.spec.name: workload.spec.listen for workload in plan.workloads}
    given = []
    if plan.lab.internet is not None:
        offers[INTERNET] = plan.lab.internet
        addresses = entries[INTERNET].addresses
        given.append(_orders(INTERNET, INTERNET_NETNS, addresses, plan.lab.internet, (), now))
    for workload in plan.workloads:
        calls = []
        for call in workload.spec.calls:
            try:
                calls.append(_calling(entries, offers, workload, call))
            except NotInLab as error:
                line, column = call.place
                message = f"{workload.spec.name} can not call {call.to}: {error.message}"
                raise InvalidDocument(
                    message, error.hint, file=file, line=line, column=column
                ) from None
        texts = tuple(str(address) for address in workload.addresses)
        listen = workload.spec.listen
        given.append(_orders(workload.spec.name, workload.netns, texts, listen, calls, now))
    return given


def _orders(
    name: str,
    netns: str,
    addresses: tuple[str, ...],
    listen: Iterable[Listen],
    calls: Iterable[Calling],
    now: int,
) -> Orders:
    serving = tuple(Serving(one.port, one.protocol, one.serve, one.tls) for one in listen)
    secret = any(one.serve == "https" for one in serving)
    pem = certificate.make(name, addresses, now=now) if secret else ""
    return Orders(name, netns, addresses, serving, tuple(calls), pem)


def _calling(
    entries: dict[str, Entry],
    offers: dict[str, tuple[Listen, ...]],
    workload: PlacedWorkload,
    call: Call,
) -> Calling:
    offered = [one for one in offers.get(call.to, ()) if one.port == call.port]
    if call.speak is not None:
        kind = "udp" if call.speak == "udp" else "tcp"
        offered = [one for one in offered if one.protocol == kind]
    listen = offered[0] if offered else None
    speak = call.speak or _language(listen)
    if speak == "tcp" and listen and listen.serve == "redis":
        speak = "redis"
    address, port = reach(
        entries,
        workload.spec.name,
        target=call.to,
        protocol="udp" if speak == "udp" else "tcp",
        port=call.port,
        family=_family(entries, workload, call),
    )
    named = call.to if call.to in entries else None
    return Calling(
        address=address,
        port=port,
        speak=speak,
        every=call.every,
        once=call.once,
        tls=listen.tls if listen else "1.3",
        server_name=call.server_name or named,
    )


def _language(listen: Listen | None) -> str:
    if listen is None:
        return "tcp"
    if listen.protocol == "udp":
        return "udp"
    return "tcp" if listen.serve == "echo" else listen.serve


def _family(entries: dict[str, Entry], workload: PlacedWorkload, call: Call) -> int | None:
    """None prefers IPv4, which a workload with an IPv6 address alone can not use."""
    only_v6 = all(address.version == 6 for address in workload.addresses)
    return 6 if call.family is None and only_v6 and call.to in entries else call.family

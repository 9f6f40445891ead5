"""What the controller answers with, beside the vocabulary of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netwatch.model.times import rfc3339


@dataclass(frozen=True, slots=True)
class FlowQuery:
    """Which flows to find; None means any. Times are nanoseconds, `since` <= last seen < `until`.

    `workload` is an identity or any `Peer.id`, on either side; `edge` an `Edge.id`; `port` the
    server's; `encryption` a status; `reporter` client or server. `limit` is cut to 1,000. `cursor`
    is the second value of the answer before. `where` is a search (see controller/search.py).
    """

    workload: str | None = None
    edge: str | None = None
    since: int | None = None
    until: int | None = None
    verdict: str | None = None
    encryption: str | None = None
    port: int | None = None
    protocol: str | None = None
    reporter: str | None = None
    limit: int = 100
    cursor: str | None = None
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where alerts go. `secret` is filled only in the answer of `add_receiver`.

    `disabled` says in a sentence why nothing is sent any more, or is None. `waiting` counts
    deliveries that are still to be made, `delivered` and `failed` those that ended.
    """

    id: str
    url: str
    allow_private: bool
    created: int
    disabled: str | None = None
    waiting: int = 0
    delivered: int = 0
    failed: int = 0
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one receiver. `state`: waiting, delivered, failed.

    `id` is the webhook-id, the same on every try. `due` is when the next try is made.
    """

    id: str
    receiver: str
    alert: str
    type: str
    state: str
    attempts: int
    created: int
    due: int
    ended: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """`counter` rises with every report and alert; `timed_out` says that it did not."""

    counter: int
    timed_out: bool


def receiver_as_json(receiver: Receiver) -> dict[str, Any]:
    """The object of `/api/v1/receivers`: never the secret."""
    return {
        "id": receiver.id,
        "url": receiver.url,
        "allow_private": receiver.allow_private,
        "created": rfc3339(receiver.created),
        "disabled": receiver.disabled,
        "waiting": receiver.waiting,
        "delivered": receiver.delivered,
        "failed": receiver.failed,
    }


def delivery_as_json(delivery: Delivery) -> dict[str, Any]:
    """The object of `/api/v1/receivers/ID/deliveries`."""
    return {
        "id": delivery.id,
        "receiver": delivery.receiver,
        "alert": delivery.alert,
        "type": delivery.type,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created": rfc3339(delivery.created),
        "due": rfc3339(delivery.due),
        "ended": rfc3339(delivery.ended),
        "problem": delivery.problem,
    }

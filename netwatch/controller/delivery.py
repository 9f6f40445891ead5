"""Brings queued events to their receivers: once each, again later if a receiver is down.

Every receiver has a thread of its own while something is due for it, so a slow one delays nobody
else; the queue is in the store, so neither does a restart lose anything.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace

from netwatch.controller import webhook
from netwatch.controller.records import Delivery, Receiver
from netwatch.controller.store import Store
from netwatch.model.errors import InvalidDocument, NetwatchError
from netwatch.model.times import SECOND
from netwatch.settings import Settings

# The example schedule of the Standard Webhooks specification, in seconds after each failed try.
SCHEDULE_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # of each pause, so that many receivers that failed together do not return together
BATCH = 20  # messages to one receiver before its thread ends; the next tick starts another
LONGEST_PAUSE_S = 86_400.0
RECEIVERS_LIMIT = 32
FROM_SETTINGS = "settings"  # id of the receiver that the settings name


class Dispatcher:
    """Sends what is due. `random` gives numbers in [0, 1) for the jitter."""

    def __init__(
        self,
        store: Store,
        *,
        send: webhook.Send,
        clock: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._send = send
        self._clock = clock
        self._random = random
        self._threads: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def start_due(self, now: int) -> None:
        """Starts sending what is due at `now`; returns at once."""
        if self._stopping.is_set():
            return
        self._threads = {id: t for id, t in self._threads.items() if t.is_alive()}
        receivers = {receiver.id: receiver for receiver in self._store.receivers()}
        for id, batch in self._store.due(now, BATCH).items():
            if id in self._threads or id not in receivers:
                continue
            thread = threading.Thread(
                target=self._deliver,
                args=(receivers[id], batch),
                name=f"webhook-{id}",
                daemon=True,
            )
            self._threads[id] = thread
            thread.start()

    def join(self, timeout_s: float) -> bool:
        """Waits until nothing is being sent; False if that took too long."""
        for thread in list(self._threads.values()):
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads.values())

    def stop(self, timeout_s: float) -> bool:
        """Starts nothing more and waits for what is under way; the rest stays in the queue."""
        self._stopping.set()
        return self.join(timeout_s)

    def _deliver(self, receiver: Receiver, batch: list[tuple[Delivery, str]]) -> None:
        for delivery, body in batch:
            if self._stopping.is_set():
                return
            content = body.encode()
            now = self._clock()
            headers = webhook.signed(delivery.id, now // SECOND, content, secret=receiver.secret)
            answer = self._send(
                webhook.Message(receiver.url, headers, content, receiver.allow_private)
            )
            now = self._clock()
            outcome = after_try(delivery, answer, now, random=self._random())
            self._store.save_delivery(outcome)
            if answer.status == 410:
                self._store.disable_receiver(receiver.id, "the receiver answered 410 Gone", now)
                return
            if outcome.state == "waiting":
                return  # it is down: what follows would fail too, and is due at the next tick


def after_try(delivery: Delivery, answer: webhook.Answer, now: int, *, random: float) -> Delivery:
    """The delivery after one more try: delivered, failed for good, or due again.

    2xx is success. Everything else, redirects included, is tried again by SCHEDULE_S; 410 is not.
    Retry-After of 429 and 503 makes a pause longer, never shorter. `random` is in [0, 1).
    """
    attempts = delivery.attempts + 1
    if answer.status is not None and 200 <= answer.status < 300:
        return replace(delivery, state="delivered", attempts=attempts, ended=now, problem=None)
    problem = answer.problem or f"the receiver answered {answer.status}"
    if answer.status == 410 or attempts > len(SCHEDULE_S):
        return replace(delivery, state="failed", attempts=attempts, ended=now, problem=problem)
    pause_s = SCHEDULE_S[attempts - 1] * (1 + JITTER * random)
    if answer.status in (429, 503) and answer.retry_after_s is not None:
        pause_s = max(pause_s, min(answer.retry_after_s, LONGEST_PAUSE_S))
    due = now + int(pause_s * SECOND)
    return replace(delivery, attempts=attempts, due=due, problem=problem)


def new_receiver(
    store: Store, url: str, secret: str | None, *, allow_private: bool, now: int
) -> Receiver:
    """A receiver that is kept from now on; raises InvalidDocument for its url or secret."""
    if len(store.receivers()) >= RECEIVERS_LIMIT:
        raise NetwatchError(
            f"there are {RECEIVERS_LIMIT} receivers already", "remove one that is not used"
        )
    secret = secret or webhook.make_secret()
    webhook.check(url, allow_private=allow_private, secret=secret)
    receiver = Receiver(f"rc_{secrets.token_hex(8)}", url, allow_private, now, secret=secret)
    store.save_receiver(receiver)
    return receiver


def keep_receiver_of(settings: Settings, store: Store, *, now: int) -> None:
    """The receiver that the settings name, if any, made once; raises InvalidDocument."""
    url, allow_private = settings.webhook_url, settings.webhook_allow_private
    if not url:
        return
    old = next((r for r in store.receivers() if r.id == FROM_SETTINGS), None)
    secret = settings.webhook_secret or (old.secret if old else webhook.make_secret())
    try:
        webhook.check(url, allow_private=allow_private, secret=secret)
    except InvalidDocument as error:
        raise InvalidDocument(f"webhook_url: {error.message}", error.hint) from None
    created = old.created if old else now
    store.save_receiver(Receiver(FROM_SETTINGS, url, allow_private, created, secret=secret))

"""Names of addresses, learned from the answers of name servers as they pass: bounded, expiring.

An answer counts for the workload that asked, because its name server may tell it what it likes;
one to the host itself counts for all of its workloads. Only an answer to a question that was seen
is taken. Names over TCP, TLS or HTTPS, and those that were resolved before the agent began, are
not learned; of a socket that asks for long, only the first dozen answers are seen.
"""

from __future__ import annotations

from collections.abc import Iterable

from netwatch.agent.addresses import text_of
from netwatch.agent.names import Names
from netwatch.capture.sensor import Payload
from netwatch.dissect import dns
from netwatch.model.learned import LearnedName
from netwatch.model.times import SECOND, passed

PORT, UDP = 53, 17
MAX_ASKED = 8_192  # questions that wait for their answer
MAX_NAMES = 512  # of one workload; whoever asks for more loses its own oldest only
MAX_SCOPES = 4_096
MAX_TOLD = 4_096  # of one report
SHORTEST_S = 10  # a client connects some time after it asked
LONGEST_S = 86_400
PRUNE_EVERY = 30 * SECOND

_Question = tuple[bytes, bytes, int, int, int]


class LearnedNames:
    """`learn` takes payloads, `name` gives what an address was called, `news` what is new."""

    def __init__(self) -> None:
        self._asked: dict[_Question, None] = {}
        self._scopes: dict[str | None, dict[tuple[str, str], LearnedName]] = {}
        self._latest: dict[str | None, dict[str, LearnedName]] = {}
        self._news: dict[tuple[str | None, str, str], LearnedName] = {}
        self._pruned = 0
        self.dropped = 0

    def learn(self, payloads: Iterable[Payload], names: Names, now: int) -> None:
        """Take questions and answers out of what was captured."""
        for payload in payloads:
            if payload.protocol == UDP and PORT in (payload.low_port, payload.high_port):
                self._take(payload, names, now)
        if passed(self._pruned, now, PRUNE_EVERY):
            self._prune(now)

    def name(self, address: str, *, workload: str | None, at: int) -> str | None:
        """What the address was called last, for this workload, if that still held at `at` (ns)."""
        for scope in dict.fromkeys((workload, None)):
            known = self._latest.get(scope, {}).get(address)
            if known is not None and known.expires >= at:
                return known.name
        return None

    def news(self) -> tuple[LearnedName, ...]:
        """What was learned or renewed since the last time."""
        told = tuple(self._news.values())
        self._news = {}
        return told

    def table(self) -> tuple[LearnedName, ...]:
        """Everything that is known, expired entries of the last half minute included."""
        return tuple(entry for known in self._scopes.values() for entry in known.values())

    def _take(self, payload: Payload, names: Names, now: int) -> None:
        said = dns.query_id(payload.data)
        if said is None:
            return
        number, response = said
        question = (payload.low, payload.high, payload.low_port, payload.high_port, number)
        port = payload.low_port if payload.from_low else payload.high_port
        if not response:
            while len(self._asked) >= MAX_ASKED:
                del self._asked[next(iter(self._asked))]
            self._asked[question] = None
            return
        if port != PORT or question not in self._asked:
            return
        del self._asked[question]
        asker = text_of(payload.high if payload.from_low else payload.low)
        workload = names.by_address.get(asker)
        if workload is None and asker not in names.own:
            return
        scope = workload.identity if workload else None
        for answer in dns.answers(payload.data):
            self._keep(scope, answer, now)

    def _keep(self, scope: str | None, answer: dns.Answer, now: int) -> None:
        if scope not in self._scopes and len(self._scopes) >= MAX_SCOPES:
            self.dropped += 1
            return
        known = self._scopes.setdefault(scope, {})
        key = (answer.name, answer.address)
        lasting = min(max(answer.ttl, SHORTEST_S), LONGEST_S) * SECOND
        known.pop(key, None)
        while len(known) >= MAX_NAMES:
            oldest = known.pop(next(iter(known)))
            latest = self._latest[scope]
            if latest.get(oldest.address) is oldest:
                del latest[oldest.address]
            self.dropped += 1
        entry = LearnedName(answer.name, answer.address, now + lasting, scope)
        known[key] = entry
        self._latest.setdefault(scope, {})[answer.address] = entry
        if len(self._news) < MAX_TOLD:
            self._news[(scope, *key)] = entry

    def _prune(self, now: int) -> None:
        self._pruned = now
        for scope in list(self._scopes):
            live = {k: e for k, e in self._scopes[scope].items() if e.expires > now}
            self._scopes[scope] = live
            self._latest[scope] = {e.address: e for e in live.values()}
            if not live:
                del self._scopes[scope], self._latest[scope]

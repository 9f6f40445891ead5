"""Verbs that ask a running controller: workloads, edges, flows, hosts, alerts.

The controller is found by NETWATCH_URL and NETWATCH_TOKEN, else by the files `url` and `token`
that `netwatch up` leaves in its state folder.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from netwatch import settings
from netwatch.cli.output import json_option, print_json, say, table
from netwatch.model.errors import NetwatchError, Unreachable

TIMEOUT_S = 30
STREAM_TIMEOUT_S = 60  # the stream says that it is alive every 15 s
MAX_ANSWER = 256 * 1024 * 1024
SEEN = 20_000  # flows that `--follow` remembers, to print each change once

Row = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Remote:
    """A controller and the token for it."""

    url: str
    token: str

    def get(self, name: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`GET /api/v1/NAME`; raises Unreachable, or the error that the controller tells."""
        given = {k: v for k, v in (parameters or {}).items() if v is not None}
        query = f"?{urllib.parse.urlencode(given)}" if given else ""
        return self._ask(f"/api/v1/{name}{query}")

    def post(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """`POST /api/v1/NAME` with a JSON body; raises the same."""
        return self._ask(f"/api/v1/{name}", json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        with self._open(path, timeout=TIMEOUT_S, body=body) as answer:
            try:
                found = json.loads(answer.read(MAX_ANSWER))
            except (ValueError, OSError, http.client.HTTPException):
                raise self._unreachable("its answer could not be read") from None
        if not isinstance(found, dict):
            raise self._unreachable("something else answers there")
        return found

    def changes(self) -> Iterator[None]:
        """One item at once and one for each change, until the stream ends."""
        with self._open("/events", timeout=STREAM_TIMEOUT_S) as stream:
            yield  # only now: what changes from here on is told by the stream
            try:
                for line in stream:
                    if line.startswith(b"event: change"):
                        yield
            except (OSError, http.client.HTTPException):
                raise self._unreachable("the stream broke off") from None

    def _open(self, path: str, *, timeout: float, body: bytes | None = None) -> Any:
        if not self.url.startswith(("http://", "https://")):
            raise self._unreachable("that is no http URL")
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            request = urllib.request.Request(self.url.rstrip("/") + path, body, headers)
            return urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise _told(error, self.url) from None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise self._unreachable(str(getattr(error, "reason", error))) from None
        except ValueError:
            raise self._unreachable("that is no URL") from None

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"the controller at {self.url} does not answer: {why}",
            "start it with `netwatch up`, or say where it is by NETWATCH_URL and NETWATCH_TOKEN",
        )


def _told(error: urllib.error.HTTPError, url: str) -> NetwatchError:
    """The error in an answer; one without our shape came from something else."""
    try:
        told = json.loads(error.read(65536))["error"]
        where = {name: told.get(name) for name in ("file", "line", "column")}
        return NetwatchError(told["message"], told["hint"], code=told["code"], **where)
    except (ValueError, KeyError, TypeError, OSError):
        return Unreachable(f"{url} answered {error.code}", "is it netwatch?")


def remote(environment: Mapping[str, str], state: Path) -> Remote:
    """Where the controller is; raises Unreachable if nothing says so."""
    url, token = environment.get("NETWATCH_URL"), environment.get("NETWATCH_TOKEN")
    try:
        url = url or (state / "url").read_text().strip()
        token = token or (state / "token").read_text().strip()
    except OSError:
        raise Unreachable(
            f"no controller is known: {state} has no url and token to read",
            "start one with `netwatch up`, or set NETWATCH_URL and NETWATCH_TOKEN",
        ) from None
    return Remote(url, token)


def fleet() -> Remote:
    """The controller that the environment or the state folder names; raises Unreachable."""
    return remote(os.environ, Path(settings.load().state))


def all_pages(source: Remote, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every page of a list as one answer; with a limit, only the first page."""
    answer = source.get(name, parameters)
    while answer["next"] is not None and "limit" not in parameters:
        more = source.get(name, {**parameters, "cursor": answer["next"]})
        answer = {**more, name: answer[name] + more[name]}
    return answer


def _show(
    name: str,
    parameters: Mapping[str, Any],
    *,
    as_json: bool,
    headings: Sequence[str],
    row: Callable[[Row], Sequence[object]],
) -> None:
    given = {key: value for key, value in parameters.items() if value is not None}
    answer = all_pages(fleet(), name, given)
    if as_json:
        print_json(answer)
        return
    rows = answer[name]
    click.echo(table(headings, map(row, rows)) if rows else f"no {name}")
    _say_losses(answer["losses"])
    if answer["next"] is not None:
        say("there are more; raise --limit")


def _say_losses(losses: Mapping[str, int]) -> None:
    lost = ", ".join(f"{number} {reason}" for reason, number in sorted(losses.items()) if number)
    if lost:
        say(f"not everything was seen: {lost}")


def filters(*names: str) -> Callable[[F], F]:
    """Options that narrow a list, by the names of the API's parameters."""
    known: dict[str, Any] = {
        "workload": click.option("--workload", metavar="ID", help="On either side."),
        "edge": click.option("--edge", metavar="ID", help="Of one edge."),
        "namespace": click.option("--namespace", metavar="NAME"),
        "host": click.option("--host", metavar="NAME"),
        "port": click.option("--port", type=click.IntRange(0, 65535), help="The server's port."),
        "protocol": click.option("--protocol", metavar="NAME", help="tcp, udp, icmp …"),
        "encryption": click.option(
            "--encryption", type=click.Choice(("encrypted", "plaintext", "unknown"))
        ),
        "verdict": click.option("--verdict", type=click.Choice(("allow", "deny", "violated"))),
        "since": click.option("--since", metavar="TIME", help="RFC 3339."),
        "until": click.option("--until", metavar="TIME", help="RFC 3339."),
        "state": click.option(
            "--state", type=click.Choice(("open", "acknowledged", "snoozed", "resolved"))
        ),
        "limit": click.option("--limit", type=click.IntRange(1, 1000), help="At most so many."),
    }

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = known[name](function)
        return function

    return decorate


@click.command()
@filters("host", "namespace")
@json_option
def workloads(*, as_json: bool, **given: Any) -> None:
    """Workloads that the controller knows."""

    def row(w: Row) -> Sequence[object]:
        ports = " ".join(f"{p['port']}/{p['protocol']}" for p in w["ports"])
        return w["id"], w["runtime"], " ".join(w["addresses"]), ports or "-", w["image"] or "-"

    headings = ("WORKLOAD", "RUNTIME", "ADDRESSES", "DOCUMENTED", "IMAGE")
    _show("workloads", given, as_json=as_json, headings=headings, row=row)


EDGE_HEADINGS = (
    "SOURCE",
    "DESTINATION",
    "PORT",
    "ENCRYPTION",
    "VERDICT",
    "CONNS",
    "BYTES",
    "LAST",
)


@click.command()
@filters("workload", "namespace", "host", "port", "protocol", "encryption", "verdict")
@filters("since", "until", "limit")
@json_option
def edges(*, as_json: bool, **given: Any) -> None:
    """Who talks to whom, on which port, how well encrypted."""

    def row(e: Row) -> Sequence[object]:
        port = e["protocol"] if e["port"] is None else f"{e['port']}/{e['protocol']}"
        encryption = ",".join(e["encryption"]["versions"]) or e["encryption"]["status"]
        ends = _end(e["source"]), _end(e["destination"])
        if e["protection"] in ("link", "both"):
            encryption = f"{encryption}+{e['link']['kind']}"
        return *ends, port, encryption, _verdict(e), e["connections"], e["bytes"], e["last_seen"]

    _show("edges", given, as_json=as_json, headings=EDGE_HEADINGS, row=row)


def _end(peer: Row) -> str:
    if peer["kind"] == "workload":
        return str(peer["id"])
    known = f" ({peer['known_as']}, {peer['named_by']})" if peer["known_as"] else ""
    return f"{peer['kind']}:{peer['name']}{known}"


def _verdict(row: Row) -> str:
    if row["verdict"] != "deny" and row["staged"] == "deny":
        return "would-deny"
    return row["verdict"] or "-"


FLOW_HEADINGS = ("LAST", "CLIENT", "SERVER", "PROTOCOL", "ENCRYPTION", "VERDICT", "BYTES", "STATE")


def _flow_row(flow: Row) -> Sequence[object]:
    encryption = flow["encryption"]
    return (
        flow["last_seen"],
        _address(flow["client"]),
        _address(flow["server"]),
        flow["protocol"],
        encryption["version"] or encryption["status"],
        _verdict(flow),
        flow["client_bytes"] + flow["server_bytes"],
        flow["state"],
    )


def _address(end: Row) -> str:
    name = end["workload"] or end["name"] or end["address"]
    return name if end["port"] is None else f"{name}:{end['port']}"


@click.command()
@filters("workload", "edge", "port", "protocol", "encryption", "verdict", "since", "until")
@filters("limit")
@click.option("--follow", is_flag=True, help="Print new ones as they come, until interrupted.")
@json_option
def flows(*, as_json: bool, follow: bool, **given: Any) -> None:
    """Conversations, newest first; with --follow each one when it changes."""
    if not follow:
        given["limit"] = given["limit"] or 100
        _show("flows", given, as_json=as_json, headings=FLOW_HEADINGS, row=_flow_row)
        return
    given["limit"] = given["limit"] or 1000
    for flow in followed(fleet(), given):
        if as_json:
            print_json(flow)
        else:
            click.echo(table(("",) * len(FLOW_HEADINGS), [_flow_row(flow)]).strip())


def followed(source: Remote, parameters: Mapping[str, Any]) -> Iterator[Row]:
    """Each flow when it is first seen or has grown, oldest first, until the stream ends."""
    seen: dict[tuple[object, ...], object] = {}
    for _ in source.changes():
        for flow in reversed(source.get("flows", parameters)["flows"]):
            key = _key(flow)
            if seen.get(key) != flow["last_seen"]:
                seen.pop(key, None)
                seen[key] = flow["last_seen"]
                yield flow
        for key in list(seen)[: max(0, len(seen) - SEEN)]:
            del seen[key]


def _key(flow: Row) -> tuple[object, ...]:
    ends: Iterable[Row] = (flow["client"], flow["server"])
    return (
        flow["protocol"],
        flow["host"],
        flow["reporter"],
        flow["first_seen"],
        *((end["address"], end["port"]) for end in ends),
    )


@click.command()
@json_option
def hosts(*, as_json: bool) -> None:
    """Hosts: how each one sees, when it reported last, what it missed."""

    def row(h: Row) -> Sequence[object]:
        lost = sum(h["losses"].values())
        last = h["last_report"] or "never"
        state = "silent" if h["silent"] else "reporting" if h["last_report"] else "waiting"
        problem = h["capture"]["problem"] or h["enforcement"]["problem"] or "-"
        seen = h["host"], state, h["capture"]["method"], h["workloads"], lost, last
        return *seen, _in_force(h), problem

    headings = (
        "HOST",
        "STATE",
        "CAPTURE",
        "WORKLOADS",
        "LOST",
        "LAST REPORT",
        "POLICIES",
        "PROBLEM",
    )
    _show("hosts", {}, as_json=as_json, headings=headings, row=row)


def _in_force(host: Row) -> str:
    """The start of the hash of the policies in force, and how it stands with what is wanted."""
    enforcement = host["enforcement"]
    words = [(enforcement["policies"] or "none")[:12]]
    if enforcement["mode"] != "enforce":
        words.append("observes")
    if host["differs"]:
        words.append("differs")
    if enforcement["pending"]:
        words.append("unconfirmed")
    return " ".join(words)


@click.command()
@filters("state", "limit")
@json_option
def alerts(*, as_json: bool, **given: Any) -> None:
    """Alerts, newest first."""

    def row(a: Row) -> Sequence[object]:
        return a["opened"], a["severity"], a["state"], a["detector"], a["title"], a["id"]

    headings = ("OPENED", "SEVERITY", "STATE", "DETECTOR", "TITLE", "ID")
    _show("alerts", given, as_json=as_json, headings=headings, row=row)

"""Verbs that ask a running controller: workloads, edges, hosts, alerts.

The controller is found by NETWATCH_URL and NETWATCH_TOKEN, else by the files `url` and `token`
that `netwatch up` leaves in its state folder.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from netwatch import settings
from netwatch.cli.compared import say_compared
from netwatch.cli.output import encryption_told, json_option, print_json, say, say_gaps, table
from netwatch.model.errors import NetwatchError, Unreachable, UsageError

TIMEOUT_S = 30
EXPORT_TIMEOUT_S = 600
STREAM_TIMEOUT_S = 60  # the stream says that it is alive every 15 s
MAX_ANSWER = 256 * 1024 * 1024

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

    def save(self, name: str, parameters: Mapping[str, Any], target: Path) -> None:
        """The file that `GET /api/v1/NAME` answers with; raises NetwatchError too."""
        given = {k: v for k, v in parameters.items() if v is not None}
        path = f"/api/v1/{name}?{urllib.parse.urlencode(given)}"
        with self._open(path, timeout=EXPORT_TIMEOUT_S) as answer:
            try:
                with target.open("wb") as file:
                    shutil.copyfileobj(answer, file)
            except OSError as error:
                raise NetwatchError(
                    f"{target} can not be written: {error.strerror}", "is there room for it?"
                ) from None

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


def show(
    name: str,
    parameters: Mapping[str, Any],
    *,
    as_json: bool,
    headings: Sequence[str],
    row: Callable[[Row], Sequence[object]],
) -> None:
    """Prints a list of the controller as a table or as JSON, and what was not seen."""
    given = {key: value for key, value in parameters.items() if value is not None}
    answer = all_pages(fleet(), name, given)
    if as_json:
        print_json(answer)
        return
    rows = answer[name]
    click.echo(table(headings, map(row, rows)) if rows else f"no {name}")
    say_losses(answer["losses"])
    say_gaps(answer.get("gaps", ()))
    if answer["next"] is not None:
        say("there are more; raise --limit")


def say_losses(losses: Mapping[str, int]) -> None:
    """One line for people; nothing where nothing was lost."""
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
        "address": click.option("--address", metavar="A", help="Of either side."),
        "version": click.option("--version", metavar="V", help="Of the encryption: TLSv1.2 …"),
        "server_name": click.option("--server-name", metavar="NAME", help="As the client asked."),
        "flow_state": click.option("--state", metavar="STATE", help="established, refused …"),
        "where": click.option(
            "--where",
            multiple=True,
            metavar="SEARCH",
            help="Any field: `client.port > 1023 and certificate.issuer ~ acme`.",
        ),
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
    show("workloads", given, as_json=as_json, headings=headings, row=row)


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
@click.option("--at", metavar="TIME", help="As it was then: who spoke in the hour before.")
@click.option("--window", type=click.IntRange(1), help="Seconds instead of that hour.")
@click.option(
    "--compare", nargs=2, metavar="EARLIER LATER", help="What changed between two times."
)
@json_option
def edges(*, as_json: bool, compare: tuple[str, str] | None, **given: Any) -> None:
    """Who talks to whom, on which port, how well encrypted; now or at any time."""
    if compare is not None:
        others = [name for name, value in given.items() if value is not None and name != "window"]
        if others:
            raise UsageError(f"--compare takes no --{others[0]}", "compare, then look for it")
        given = {"before": compare[0], "after": compare[1], "window": given["window"]}
        say_compared(fleet().get("edges/compare", given), as_json=as_json)
        return

    def row(e: Row) -> Sequence[object]:
        port = e["protocol"] if e["port"] is None else f"{e['port']}/{e['protocol']}"
        encryption = encryption_told(e["encryption"]["status"], e["encryption"]["versions"])
        ends = _end(e["source"]), _end(e["destination"])
        if e["protection"] in ("link", "both"):
            encryption = f"{encryption}+{e['link']['kind']}"
        return *ends, port, encryption, verdict_of(e), e["connections"], e["bytes"], e["last_seen"]

    show("edges", given, as_json=as_json, headings=EDGE_HEADINGS, row=row)


def _end(peer: Row) -> str:
    if peer["kind"] == "workload":
        return str(peer["id"])
    known = f" ({peer['known_as']}, {peer['named_by']})" if peer["known_as"] else ""
    return f"{peer['kind']}:{peer['name']}{known}"


def verdict_of(row: Row) -> str:
    """What the kernel did, or what staged policies would have done."""
    if row["verdict"] != "deny" and row["staged"] == "deny":
        return "would-deny"
    return row["verdict"] or "-"


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
    show("hosts", {}, as_json=as_json, headings=headings, row=row)


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
    show("alerts", given, as_json=as_json, headings=headings, row=row)

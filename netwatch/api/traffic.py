"""`/map`, `/edges/compare`, `/observed` and `/replay`: what was at any time, what nobody saw, and
what would have been."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netwatch.api.policies import DOCUMENTS
from netwatch.api.routes import Call, Parameter, Route
from netwatch.controller.service import Controller
from netwatch.graph.comparison import compare
from netwatch.graph.coverage import Span
from netwatch.graph.views import map_view
from netwatch.model.edge import edge_as_json
from netwatch.model.errors import UsageError
from netwatch.model.policy_version import Document
from netwatch.model.times import SECOND, rfc3339
from netwatch.policy.answers import replay_json

Answer = Mapping[str, Any]

WINDOW_S = 3_600  # an edge is on the map of a moment if it spoke in the hour before
EDGES_LIMIT = 5_000  # of each list of a comparison
SLOTS, SLOTS_LIMIT = 288, 2_000  # of a period: five minutes of a day; pixels of a wide screen
PERIOD = (
    Parameter("since", "time", "Last seen at or after this time."),
    Parameter("until", "time", "Last seen before this time."),
)
AT = Parameter("at", "time", "As it was then: last seen in the `window` before this time.")
WINDOW = Parameter(
    "window", "integer", "Seconds that a moment stands for; 3,600.", minimum=1, maximum=31_536_000
)


def period(query: Mapping[str, Any]) -> dict[str, int | None]:
    """`since` and `until` of a query that may say `at` instead; raises UsageError for both."""
    if "at" not in query:
        return {"since": query.get("since"), "until": query.get("until")}
    if "since" in query or "until" in query:
        raise UsageError("at can not stand beside since or until", "give one of them")
    return moment(query["at"], query)


def moment(at: int, query: Mapping[str, Any]) -> dict[str, int | None]:
    """The window that ends with a moment, the moment itself included."""
    return {"since": at - query.get("window", WINDOW_S) * SECOND, "until": at + 1}


def show_map(controller: Controller, call: Call) -> Answer:
    """Nodes and edges as the page draws them; of the past only who talked, without alerts."""
    when = period(call.query)
    now = when["until"] is None
    view = map_view(
        controller.workloads() if now else (),
        controller.edges(**when),
        controller.hosts() if now else (),
        controller.alerts(state="open") if now else (),
    )
    return {"ok": True, **view, "gaps": gaps_of(controller, when), "losses": controller.losses()}


def gaps_of(controller: Controller, when: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """Where a known host was not observed within a period; nothing of now."""
    return _told(controller.coverage.gaps(when["since"], when["until"]))


def _told(gaps: Iterable[Span]) -> list[dict[str, Any]]:
    return [
        {"host": gap.host, "since": rfc3339(gap.since), "until": rfc3339(gap.until)}
        for gap in gaps
    ]


def show_observed(controller: Controller, call: Call) -> Answer:
    """How many hosts were observed in each piece of a period."""
    query = call.query
    if not {"since", "until"} <= query.keys() or query["since"] >= query["until"]:
        raise UsageError("a period has a beginning and a later end", "give since and until")
    slots = controller.coverage.slots(query["since"], query["until"], query.get("slots", SLOTS))
    return {
        "ok": True,
        "first": rfc3339(controller.coverage.first()),
        "slots": [{"observed": slot.observed, "known": slot.known} for slot in slots],
        "losses": controller.losses(),
    }


def compare_edges(controller: Controller, call: Call) -> Answer:
    """New, gone and changed between two moments."""
    query = call.query
    if not {"before", "after"} <= query.keys():
        raise UsageError("two times are compared", "give before and after")
    moments = [moment(query[name], query) for name in ("before", "after")]
    views = [controller.edges(**when) for when in moments]
    gaps = {g for m in moments for g in controller.coverage.gaps(m["since"], m["until"])}
    found = compare(*views)
    lists = (found.new, found.gone, found.changed)
    return {
        "ok": True,
        "new": [edge_as_json(edge) for edge in found.new[:EDGES_LIMIT]],
        "gone": [edge_as_json(edge) for edge in found.gone[:EDGES_LIMIT]],
        "changed": [
            {
                "before": edge_as_json(each.before),
                "after": edge_as_json(each.after),
                "what": list(each.what),
            }
            for each in found.changed[:EDGES_LIMIT]
        ],
        "omitted": sum(max(0, len(each) - EDGES_LIMIT) for each in lists),
        "gaps": _told(sorted(gaps, key=lambda gap: (gap.host, gap.since))),
        "losses": controller.losses(),
    }


def replay_flows(controller: Controller, call: Call) -> Answer:
    """Every stored flow of the period against a draft."""
    draft, before = (_documents(call.body.get(name)) for name in ("documents", "before"))
    found = controller.replay(draft or (), before, **period(call.query))
    losses = controller.losses()
    if found.dropped:
        losses["calls-over-limit"] = found.dropped
    told = replay_json(found, everything=bool(call.body.get("all")))
    return {"ok": True, **told, "losses": losses}


def _documents(given: list[dict[str, str]] | None) -> tuple[Document, ...] | None:
    if given is None:
        return None
    return tuple(Document(each["name"], each["text"]) for each in given)


_BEFORE = Parameter("before", "documents", "Policies in force then; absent: recorded verdicts.")
_ALL = Parameter("all", "boolean", "Whether calls whose verdict stays are told, too.")

TRAFFIC_ROUTES = (
    Route(
        "GET",
        "/map",
        "show_map",
        "The map: nodes and edges, bounded; now, or of a time that was.",
        show_map,
        (
            ("nodes", "[MapNode]"),
            ("edges", "[MapEdge]"),
            ("aggregated", "Cursor"),
            ("omitted", "Omitted"),
            ("gaps", "[Gap]"),
            ("losses", "Losses"),
        ),
        (AT, WINDOW, *PERIOD),
    ),
    Route(
        "GET",
        "/observed",
        "show_observed",
        "When hosts were observed: a period in equal pieces.",
        show_observed,
        (("first", "Time"), ("slots", "[Slot]"), ("losses", "Losses")),
        (
            *PERIOD,
            Parameter("slots", "integer", "Pieces; 288.", minimum=1, maximum=SLOTS_LIMIT),
        ),
    ),
    Route(
        "GET",
        "/edges/compare",
        "compare_edges",
        "Edges that are new, gone or changed between two times.",
        compare_edges,
        (
            ("new", "[Edge]"),
            ("gone", "[Edge]"),
            ("changed", "[ChangedEdge]"),
            ("omitted", "Number"),
            ("gaps", "[Gap]"),
            ("losses", "Losses"),
        ),
        (
            Parameter("before", "time", "The earlier one."),
            Parameter("after", "time", "The later one."),
            WINDOW,
        ),
    ),
    Route(
        "POST",
        "/replay",
        "replay_flows",
        "What a draft would have done to every stored flow.",
        replay_flows,
        (
            ("id", "Text"),
            ("counts", "Losses"),
            ("calls", "[ReplayedCall]"),
            ("omitted", "Number"),
            ("breaks", "[Broken]"),
            ("losses", "Losses"),
        ),
        PERIOD,
        body=(DOCUMENTS, _BEFORE, _ALL),
        required=("documents",),
    ),
)

"""`/api/v1/policies`: versions of the fleet's policies, and the decisions about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netwatch.api.answers import listing, page
from netwatch.api.routes import Call, Parameter, Route
from netwatch.controller.policies import CONFIRM_S, LONGEST_CONFIRM_S, Signed
from netwatch.controller.service import Controller
from netwatch.model.policy_version import Document, PolicyVersion, version_as_json
from netwatch.policy.ir import Mode

Answer = Mapping[str, Any]

PAGED = (
    Parameter("limit", "integer", "Rows of one page.", minimum=1, maximum=1000),
    Parameter("cursor", "text", "`next` of the page before."),
)
SIGNED = (
    Parameter("author", "text", "Who wants it."),
    Parameter("reason", "text", "Why."),
    Parameter("ticket", "text", "Where that is written down."),
    Parameter("replay", "text", "Id of the replay that it was signed off with."),
)
CONFIRM = Parameter(
    "confirm",
    "integer",
    "Seconds after which it is undone unless it is confirmed; 0: final.",
    maximum=LONGEST_CONFIRM_S,
)
DOCUMENTS = Parameter("documents", "documents", "The files: each a name and a text.")
MODE = Parameter("mode", "text", "observe, stage or enforce.", choices=tuple(map(str, Mode)))
NAME = Parameter("name", "text", "The document's: name, namespace/name or kind/namespace/name.")
GIVES = (("version", "PolicyVersion"),)


def list_versions(controller: Controller, call: Call) -> Answer:
    """The newest first."""
    chosen, next = page(
        controller.policies.versions(),
        key=lambda v: f"{2**31 - v.version:010d}",
        limit=call.limit(100),
        cursor=call.query.get("cursor"),
    )
    found = [version_as_json(version) for version in chosen]
    return listing("policies", found, next=next, losses=controller.losses())


def show_version(controller: Controller, call: Call) -> Answer:
    """With the texts of its documents."""
    version = controller.policies.version(call.path["version"])
    files = controller.policies.documents(version.version)
    texts = [{"name": file.name, "text": file.text} for file in files]
    return {**_told(version), "documents": texts}


def apply_version(controller: Controller, call: Call) -> Answer:
    """All or nothing."""
    files = [Document(file["name"], file["text"]) for file in call.body["documents"]]
    confirm_s = call.number("confirm", CONFIRM_S)
    return _told(controller.policies.apply(files, _signed(call), confirm_s=confirm_s))


def confirm_version(controller: Controller, call: Call) -> Answer:
    """It stays."""
    return _told(controller.policies.confirm(call.path["version"]))


def restore_version(controller: Controller, call: Call) -> Answer:
    """Final unless asked otherwise: it was in force before."""
    which, confirm_s = call.path["version"], call.number("confirm", 0)
    return _told(controller.policies.restore(which, _signed(call), confirm_s=confirm_s))


def change_mode(controller: Controller, call: Call) -> Answer:
    """Of one document."""
    return _told(
        controller.policies.change_mode(
            call.path["version"],
            call.body["name"],
            Mode(call.body["mode"]),
            _signed(call),
            confirm_s=call.number("confirm", CONFIRM_S),
        )
    )


def _signed(call: Call) -> Signed:
    return Signed(
        author=call.body["author"],
        reason=call.body.get("reason"),
        ticket=call.body.get("ticket"),
        replay=call.body.get("replay"),
    )


def _told(version: PolicyVersion) -> dict[str, Any]:
    return {"ok": True, "version": version_as_json(version)}


POLICY_ROUTES = (
    Route(
        "GET",
        "/policies",
        "list_policies",
        "Versions of the policies, newest first.",
        list_versions,
        (("policies", "[PolicyVersion]"), ("next", "Cursor"), ("losses", "Losses")),
        PAGED,
    ),
    Route(
        "POST",
        "/policies",
        "apply_policies",
        "A new version, handed out to every agent.",
        apply_version,
        GIVES,
        body=(DOCUMENTS, CONFIRM, *SIGNED),
        required=("documents", "author"),
        status=201,
    ),
    Route(
        "GET",
        "/policies/{version}",
        "show_policies",
        "One version (a number, current or previous) with its documents.",
        show_version,
        (*GIVES, ("documents", "[PolicyDocument]")),
    ),
    Route(
        "POST",
        "/policies/{version}/confirm",
        "confirm_policies",
        "Keep what waits for its confirmation.",
        confirm_version,
        GIVES,
    ),
    Route(
        "POST",
        "/policies/{version}/rollback",
        "restore_policies",
        "The documents of that version again, as a new one; 0: none at all.",
        restore_version,
        GIVES,
        body=(CONFIRM, *SIGNED),
        required=("author",),
        status=201,
    ),
    Route(
        "POST",
        "/policies/{version}/mode",
        "change_policy_mode",
        "One document of the version in force in another mode, as a new version.",
        change_mode,
        GIVES,
        body=(NAME, MODE, CONFIRM, *SIGNED),
        required=("name", "mode", "author"),
        status=201,
    ),
)

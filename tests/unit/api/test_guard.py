"""Nobody comes in without a token or a session, from another site, or by another name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from netwatch.api.guard import answers_to
from netwatch.model.times import SECOND
from tests.fakes import TOKEN
from tests.unit.api.conftest import Clock, logged_in

OPEN = {"/healthz", "/readyz", "/login", "/static/<name>", "/vendor/<name>"}
LOCAL = "http://localhost"


def _requests(app: Flask) -> list[tuple[str, str, str]]:
    return [
        (rule.rule, method, rule.rule.replace("<id>", "1").replace("<name>", "main.js"))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def test_every_route_but_the_named_ones_refuses_a_stranger(
    kept: Flask,
) -> None:
    """A new route is closed until somebody adds it to the list here and in guard.OPEN."""
    answers = {
        (rule, method): kept.test_client().open(path, method=method).status_code
        for rule, method, path in _requests(kept)
        if rule not in OPEN
    }
    assert len(answers) > 15
    assert set(answers.values()) <= {401, 303}
    assert [key for key, status in answers.items() if status == 303] == [("/", "GET")]


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/nothing", "/api/v1/edges/../x"])
def test_what_does_not_exist_is_not_told_to_a_stranger(kept: Flask, path: str) -> None:
    assert kept.test_client().get(path).status_code == 401


def test_the_map_sends_a_stranger_to_the_login_and_back_to_the_same_view(
    stranger: FlaskClient,
) -> None:
    answer = stranger.get("/?q=is:plaintext")
    assert answer.location == "/login?next=%2F%3Fq%3Dis%3Aplaintext"
    entered = stranger.post("/login", data={"token": TOKEN, "next": "/?q=is:plaintext"})
    assert entered.location == "/?q=is:plaintext"


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\n/x"],
)
def test_the_login_never_leads_to_another_site(kept: Flask, target: str) -> None:
    answer = kept.test_client().post("/login", data={"token": TOKEN, "next": target})
    assert (answer.status_code, answer.location) == (303, "/")


@pytest.mark.parametrize(
    "header", [f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer \udce4"]
)
def test_a_wrong_token_is_refused_even_with_a_good_session(kept: Flask, header: str) -> None:
    person = logged_in(kept)
    answer = person.get(
        "/api/v1/hosts", headers={"Authorization": header.encode("utf-8", "replace").decode()}
    )
    assert answer.status_code == 401
    assert answer.json is not None
    assert answer.json["error"]["code"] == "unauthorized"


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(
    stranger: FlaskClient,
) -> None:
    stranger.set_cookie("netwatch_session", "chosen-by-an-attacker")
    cookie = stranger.post("/login", data={"token": TOKEN}).headers["Set-Cookie"]
    value = cookie.split(";")[0].partition("=")[2]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert len(value) >= 32 and value != "chosen-by-an-attacker"


def test_a_session_ends_when_idle_and_a_page_that_refreshes_itself_is_idle(
    log_in: Callable[[], FlaskClient], clock: Clock
) -> None:
    person = log_in()
    for _ in range(29):
        clock.now += 60 * SECOND
        live = {"X-Netwatch": "live"}
        assert person.get("/api/v1/hosts", headers=live).status_code == 200
    clock.now += 60 * SECOND
    assert person.get("/api/v1/hosts").status_code == 401


def test_a_session_in_use_ends_after_twelve_hours(
    log_in: Callable[[], FlaskClient], clock: Clock
) -> None:
    person = log_in()
    start = clock.now
    while clock.now < start + (12 * 3600 - 600) * SECOND:
        clock.now += 600 * SECOND
        assert person.get("/api/v1/hosts").status_code == 200
    clock.now += 600 * SECOND
    assert person.get("/api/v1/hosts").status_code == 401


def test_logging_out_ends_the_session_on_the_server(log_in: Callable[[], FlaskClient]) -> None:
    person = log_in()
    cookie = person.get_cookie("netwatch_session")
    assert cookie is not None
    person.post("/logout", headers={"Origin": LOCAL, "X-Netwatch": "1"})
    person.set_cookie("netwatch_session", cookie.value)
    assert person.get("/api/v1/hosts").status_code == 401


def test_five_wrong_tokens_make_the_sixth_wait_longer_each_time(
    stranger: FlaskClient, clock: Clock
) -> None:
    for _ in range(5):
        assert stranger.post("/login", data={"token": "wrong"}).status_code == 401
    waits = []
    for _ in range(4):
        refused = stranger.post("/login", data={"token": TOKEN})
        assert refused.status_code == 429
        waits.append(int(refused.headers["Retry-After"]))
        clock.now += waits[-1] * SECOND
        assert stranger.post("/login", data={"token": "wrong"}).status_code == 401
    assert waits == [60, 120, 240, 480]
    clock.now += 900 * SECOND
    assert stranger.post("/login", data={"token": TOKEN}).status_code == 303


def test_one_address_that_guesses_does_not_lock_out_another(
    app: Flask, stranger: FlaskClient
) -> None:
    for _ in range(6):
        stranger.post("/login", data={"token": "wrong"})
    other = app.test_client().post(
        "/login", data={"token": TOKEN}, environ_base={"REMOTE_ADDR": "127.0.0.9"}
    )
    assert other.status_code == 303


FOREIGN = [
    pytest.param({}, id="no origin"),
    pytest.param({"Origin": "https://evil.example", "X-Netwatch": "1"}, id="foreign origin"),
    pytest.param({"Origin": "null", "X-Netwatch": "1"}, id="null origin"),
    pytest.param({"Origin": LOCAL, "Content-Type": "text/plain"}, id="a form's text/plain"),
    pytest.param({"Origin": "http://localhost:81", "X-Netwatch": "1"}, id="another port"),
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_no_other_site_can_make_a_session_change_anything(
    kept: Flask, reader: FlaskClient, headers: dict[str, str]
) -> None:
    """Every state-changing route of the map of routes; the login is a form and has none."""
    person = logged_in(kept)
    changing = [r for r in _requests(kept) if r[1] not in ("GET", "HEAD") and r[0] != "/login"]
    assert len(changing) >= 5
    for _, method, path in changing:
        body = '{"url": "https://example.org"}'
        answer = person.open(path, method=method, headers=headers, data=body)
        assert answer.status_code == 403, path
    receivers = reader.get("/api/v1/receivers").json
    assert receivers is not None and receivers["receivers"] == []


def test_the_page_itself_may_change_things(log_in: Callable[[], FlaskClient]) -> None:
    answer = log_in().post("/api/v1/alerts/1/acknowledge", json={}, headers={"Origin": LOCAL})
    assert answer.json is not None
    assert answer.json["alert"]["state"] == "acknowledged"


NAMES = frozenset({"netwatch.example.org", "192.0.2.7"})


@pytest.mark.parametrize(
    ("host", "names", "ours"),
    [
        ("localhost:8741", NAMES, True),
        ("127.0.0.1:8741", NAMES, True),
        ("127.9.9.9", NAMES, True),
        ("[::1]:8741", NAMES, True),
        ("192.0.2.7:8741", NAMES, True),
        ("NETWATCH.example.org", NAMES, True),
        ("192.0.2.8", NAMES, False),
        ("192.0.2.8", frozenset({"*"}), True),
        ("rebound.evil.example:8741", NAMES, False),
        ("rebound.evil.example", frozenset({"*"}), False),
        ("localhost.evil.example", NAMES, False),
        ("localhost@evil.example", NAMES, False),
        ("127.0.0.1/evil.example", NAMES, False),
        ("", NAMES, False),
        ("[::1", NAMES, False),
    ],
)
def test_only_our_names_and_addresses_are_answered(
    host: str, names: frozenset[str], ours: bool
) -> None:
    """A name that an attacker rebinds to loopback reaches us with his Host header."""
    assert answers_to(host, names) is ours


def test_a_rebound_name_reaches_nothing_not_even_health(kept: Flask) -> None:
    answer = kept.test_client().get("/healthz", headers={"Host": "rebound.evil.example"})
    assert answer.status_code == 421


@pytest.mark.parametrize("path", ["/login", "/healthz", "/api/v1/edges", "/static/main.js", "/x"])
def test_every_answer_carries_the_security_headers(reader: FlaskClient, path: str) -> None:
    with reader.get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] in ("no-referrer", "same-origin")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../templates/map.html",
        "/static/..%2f..%2fsetup.cfg",
        "/vendor/README.md",
        "/static/",
    ],
)
def test_only_files_of_the_front_end_are_served(reader: FlaskClient, path: str) -> None:
    assert reader.get(path).status_code == 404

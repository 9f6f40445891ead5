"""A real Chromium and a controller on a free loopback port; every page is watched for mischief."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.fakes import TOKEN, FakeController, serve, shop

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
)


@dataclass
class Watched:
    """A page, and what it did that a good page does not."""

    page: Page
    mischief: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def controller() -> FakeController:
    return shop()


@pytest.fixture
def url(controller: FakeController) -> Iterator[str]:
    listener = serve(controller, clock=time.time_ns)
    yield listener.url
    listener.stop()


@pytest.fixture
def visit(chromium: Browser, url: str) -> Iterator[Callable[..., Watched]]:
    """Opens a page of the controller, logged in, with everything fetched."""
    contexts = []

    def open_page(path: str = "/") -> Watched:
        context = chromium.new_context(viewport={"width": 1400, "height": 900})
        contexts.append(context)
        watched = Watched(context.new_page())
        page = watched.page
        page.set_default_timeout(15_000)
        page.on("dialog", lambda dialog: (watched.mischief.append("dialog"), dialog.dismiss()))
        page.on("pageerror", lambda error: watched.mischief.append(str(error)))
        page.on("console", lambda m: m.type == "error" and watched.mischief.append(m.text))
        page.on(
            "request",
            lambda r: urlsplit(r.url).hostname != "127.0.0.1" and watched.left.append(r.url),
        )
        page.add_init_script(
            "window.__violations = [];"
            "addEventListener('securitypolicyviolation',"
            " (event) => __violations.push(event.violatedDirective));"
        )
        page.goto(url + path)
        page.fill("#token", TOKEN)
        page.click("form button")
        page.wait_for_selector("body[data-ready=true]")
        return watched

    yield open_page
    for context in contexts:
        context.close()

"""The control of time: a past map, the difference of two times, gaps, a link that keeps them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from netwatch.graph.coverage import Span
from netwatch.model.times import SECOND, rfc3339
from tests.browser.conftest import Watched
from tests.browser.test_map import blameless, drawn, rows
from tests.fakes import FakeController

pytestmark = pytest.mark.browser

HOUR = 3_600 * SECOND
NOW = time.time_ns() // SECOND * SECOND
LATER, EARLIER = NOW - 2 * HOUR, NOW - 7 * HOUR
DB = "b/shop/worker>b/shop/db:tcp/5432"
CACHE = "a/shop/api>a/shop/cache:tcp/6379"


def remembered(controller: FakeController) -> tuple[str, str, str]:
    """The estate at two times, not alike: ids of an edge that is new, one gone and one changed.

    Host c was not observed for half an hour before the later one, and nobody was around midnight.
    """
    edges = [dataclasses.replace(e, first_seen=NOW - 9 * HOUR) for e in controller.edges()]
    plain = next(e for e in edges if e.encryption == "plaintext")
    new, gone = [e for e in edges if e.encryption == "encrypted"][:2]
    later = [e for e in edges if e.id != gone.id]
    earlier = [e for e in edges if e.id not in (new.id, plain.id)]
    earlier.append(dataclasses.replace(plain, encryption="encrypted", versions=("TLSv1.2",)))
    controller.change(
        edges=(
            *(dataclasses.replace(e, last_seen=LATER - 600 * SECOND) for e in later),
            *(dataclasses.replace(e, last_seen=EARLIER - 600 * SECOND) for e in earlier),
        )
    )
    controller.coverage.unseen = (
        Span("c", LATER - HOUR // 2, LATER - HOUR // 4),
        *(Span(host, NOW - 13 * HOUR, NOW - 12 * HOUR) for host in "abc"),
    )
    return new.id, gone.id, plain.id


def looked_at(page: Page) -> str:
    """What the scale says to who can not see it."""
    return page.locator("#at-scale").get_attribute("aria-valuetext") or ""


def test_a_time_that_was_is_shown_with_what_nobody_observed(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    new, gone, _ = remembered(controller)
    watched = visit(f"/?at={rfc3339(LATER)}")
    page = watched.page
    expect(page.locator("#past")).to_contain_text("the hour before it")
    expect(page.locator("#gaps")).to_contain_text("Not observed: c")
    assert new in drawn(page, "edge")
    assert gone not in drawn(page, "edge")
    assert sorted(rows(page)) == sorted(drawn(page, "edge"))
    expect(page.locator("#at-track .missed")).to_have_count(1)
    expect(page.locator("#at-track .partly")).to_have_count(1)
    blameless(watched)


def test_keys_alone_go_back_in_time_and_return(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    """The link says where one is; live again it says nothing, and new things appear."""
    remembered(controller)
    watched = visit()
    page = watched.page
    expect(page.locator("#now")).to_have_attribute("aria-pressed", "true")
    page.locator("#at-scale").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#now")).to_have_attribute("aria-pressed", "false")
    assert "at=" in page.url
    at = looked_at(page)
    page.keyboard.press("PageDown")
    page.keyboard.press("Escape")
    page.keyboard.press("[")
    assert looked_at(page) != at
    expect(page.locator("#past")).to_be_visible()
    page.keyboard.press("n")
    expect(page.locator("#past")).to_be_hidden()
    assert "at=" not in page.url
    assert looked_at(page) == "Live"
    controller.change(losses={"map-full": 3})
    expect(page.locator("#losses")).to_contain_text("3 map full")
    blameless(watched)


def test_two_times_are_compared_and_the_link_can_be_shared(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    new, gone, changed = remembered(controller)
    link = f"/?at={rfc3339(LATER)}&before={rfc3339(EARLIER)}"
    watched = visit(link)
    page = watched.page
    expect(page.locator("#past")).to_contain_text("1 new, 1 gone, 1 changed")
    assert drawn(page, "edge.new") == {new}
    assert drawn(page, "edge.gone") == {gone}
    assert drawn(page, "edge.changed") == {changed}
    expect(page.locator("#edges-body tr").nth(0)).to_contain_text("New")
    expect(page.locator("#edges-body tr").nth(2)).to_contain_text("TLSv1.2 → plaintext")
    expect(page.locator("#gaps")).to_contain_text("may only have been unseen")
    page.locator("#legend button", has_text="Gone").click()
    assert rows(page) == [gone]
    again = visit(page.url.removeprefix(page.evaluate("location.origin")))
    assert rows(again.page) == [gone]
    page.locator("#compare").click()
    expect(page.locator("#earlier")).to_be_hidden()
    expect(page.locator("th[data-column=difference]")).to_have_count(0)
    assert "before=" not in page.url
    blameless(watched)


def test_comparing_begins_with_a_day_ago(
    visit: Callable[..., Watched], controller: FakeController
) -> None:
    remembered(controller)
    page = visit().page
    page.locator("#compare").click()
    expect(page.locator("#past")).to_contain_text("compared with")
    assert {"at", "before", "span"} <= set(
        page.evaluate("[...new URLSearchParams(location.search).keys()]")
    )
    expect(page.locator("#before-scale")).to_be_visible()

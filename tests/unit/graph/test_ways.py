"""Who gets where, over how many steps, and how many ways have to be closed."""

from __future__ import annotations

from netwatch.graph.ways import Ways, ways

OUT = "internet"
SHOP = [
    ("edge", "web"),
    ("web", "api"),
    ("api", "db"),
    ("api", "queue"),
    ("worker", "queue"),
    ("web", "proxy"),
    ("proxy", OUT),
    ("queue", "mailer"),
    ("mailer", OUT),
    (OUT, "edge"),
]


def test_steps_are_counted_from_the_node() -> None:
    found = ways(SHOP, "web", OUT)
    assert found.callers == (("edge", 1), (OUT, 2))
    assert found.called == (
        ("api", 1),
        ("proxy", 1),
        ("db", 2),
        (OUT, 2),
        ("queue", 2),
        ("mailer", 3),
    )


def test_nobodys_way_leads_through_the_outside() -> None:
    """`db` calls nobody, and what may call out does not so reach what may be called from there."""
    assert ways(SHOP, "db", OUT).called == ()
    assert "edge" not in dict(ways(SHOP, "proxy", OUT).called)
    assert "proxy" not in dict(ways(SHOP, "edge", OUT).callers)


def test_ways_out_share_no_node() -> None:
    found = ways(SHOP, "web", OUT)
    assert found.independent == 2
    assert found.shortest == ("web", "proxy", OUT)
    assert found.exits == ("mailer", "proxy")
    assert ways([*SHOP, ("web", OUT)], "web", OUT).independent == 3
    assert ways(SHOP, "api", OUT).independent == 1


def test_one_door_is_one_way_however_many_lead_to_it() -> None:
    through = [("a", x) for x in "bcd"] + [(x, "door") for x in "bcd"] + [("door", OUT)]
    assert ways(through, "a", OUT).independent == 1


def test_a_stranger_has_no_ways() -> None:
    assert ways(SHOP, "nobody", OUT) == Ways()
    assert ways([("a", "a")], "a", OUT) == Ways()

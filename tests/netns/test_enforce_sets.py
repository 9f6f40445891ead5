"""Sets by netlink are those that `ipset` shows, and a refusal says what was refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from netwatch.enforce import kernel
from netwatch.enforce.plan import Plan, Step
from netwatch.enforce.render import create_line, member_line
from netwatch.enforce.sets import NotApplied, read_sets, restore_sets

pytestmark = pytest.mark.netns

MANY = 3000  # more than one message holds
KINDS = {
    "hash:ip": (["192.0.2.1", "192.0.2.2"], ["2001:db8::1"]),
    "hash:net": (["192.0.2.0/24", "198.51.100.1"], ["2001:db8::/32", "2001:db8:1::7"]),
    "hash:ip,port": (["192.0.2.1,tcp:80", "192.0.2.1,sctp:9"], ["2001:db8::1,udp:65535"]),
    "hash:ip,port,ip": (
        [f"192.0.2.1,tcp:{port},192.0.2.7" for port in range(MANY)],
        [f"2001:db8::1,udp:{port},2001:db8::2" for port in range(MANY)],
    ),
    "hash:ip,port,net": (
        ["192.0.2.1,tcp:80,0.0.0.0/1", "192.0.2.1,tcp:80,192.0.2.7"],
        ["2001:db8::1,tcp:80,::/1"],
    ),
    "hash:net,iface": (["0.0.0.0/1,br0", "192.0.2.7,br-12"], ["::/1,br0"]),
}
WANTED = {
    f"nw-t{number}{family}": (kind, frozenset(members))
    for number, (kind, both) in enumerate(KINDS.items())
    for family, members in zip((4, 6), both, strict=True)
}


def ipset(*arguments: str) -> str:
    """What the program says."""
    command = ["ipset", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def none_left() -> Iterator[None]:
    yield
    subprocess.run(["iptables-nft", "-F"], check=True)
    restore_sets([f"destroy {title}" for title in read_sets()])


def lines(verb: str) -> list[str]:
    """To add or delete every member."""
    return [
        member_line(verb, title, member)
        for title, (_, members) in WANTED.items()
        for member in sorted(members)
    ]


def test_sets_of_every_type_are_what_ipset_shows(none_left: None) -> None:
    """Written twice (what is so already is no error), read back by us and by the program."""
    creates = [create_line(title, kind, int(title[-1])) for title, (kind, _) in WANTED.items()]
    restore_sets((*creates, *lines("add")))
    restore_sets((*creates, *lines("add")))
    assert read_sets() == WANTED
    assert sorted(each for each in ipset("save").splitlines() if each.startswith("add")) == sorted(
        lines("add")
    )
    restore_sets(lines("del"))
    restore_sets(lines("del"))
    assert all(not members for _, members in read_sets().values())
    restore_sets([f"destroy {title}" for title in (*WANTED, *WANTED)])
    assert ipset("save") == ""


def test_sets_of_others_are_not_ours(none_left: None) -> None:
    subprocess.run(["ipset", "create", "theirs", "hash:ip"], check=True)
    try:
        assert read_sets() == {}
    finally:
        subprocess.run(["ipset", "destroy", "theirs"], check=True)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        pytest.param(
            ["add nw-no4 192.0.2.1"],
            "can not add in the set nw-no4: there is no such set",
            id="no set",
        ),
        pytest.param(
            [
                "create nw-x6 hash:ip family inet6 maxelem 1",
                *(f"add nw-x6 2001:db8::{n}" for n in range(1, 4)),
            ],
            "can not add 2001:db8::2 in the set nw-x6: the set is full",
            id="full",
        ),
        pytest.param(
            ["create nw-x4 hash:ip family inet maxelem 9", "create nw-x4 hash:net maxelem 9"],
            "can not create the set nw-x4 (hash:net)",
            id="another type",
        ),
    ],
)
def test_a_refusal_names_set_and_member(none_left: None, bad: list[str], says: str) -> None:
    with pytest.raises(NotApplied) as refused:
        restore_sets(bad)
    assert says in refused.value.message


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_a_change_that_is_refused_takes_back_what_it_had_permitted(
    none_left: None, backend: str
) -> None:
    """Members come before rules; if the rules are refused, the old ones must not permit more."""
    restore_sets(["create nw-x4 hash:ip family inet maxelem 9", "add nw-x4 192.0.2.1"])
    before = read_sets()
    sets = ("create nw-y4 hash:ip family inet maxelem 9", "add nw-x4 192.0.2.2")
    rules = (
        "*filter",
        ":NW-X - [0:0]",
        "-A NW-X -m set --match-set nw-none src -j DROP",
        "COMMIT",
    )
    with pytest.raises(NotApplied, match="those from before stay in force"):
        kernel.carry_out(Plan((Step(None, sets), Step(4, rules))), backend)
    assert read_sets() == before
    assert "NW-X" not in kernel.saved(backend, 4)
